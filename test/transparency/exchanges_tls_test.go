package transparency

import (
	"crypto/tls"
	"io"
	"time"

	"github.com/mizzen-mesh/mizzen/internal/sdstest"
)

// tlsExchanges are an application's own TLS.
func tlsExchanges() []exchange {
	var out []exchange
	x := func(name string, config *tls.Config, client, server func(*side, *tls.Conn)) {
		both := func(s *side, conn func(*tls.Config) *tls.Conn, then func(*side, *tls.Conn)) {
			own, err := certificate()
			if err != nil {
				s.fail("certificate: %v", err)
			}
			c := config.Clone()
			c.InsecureSkipVerify, c.ServerName, c.Certificates = true, "example.test", []tls.Certificate{*own}
			t := conn(c)
			_ = s.conn.SetDeadline(time.Now().Add(s.patience))
			if err := t.Handshake(); err != nil {
				s.fail("handshake: %s", ended(err))
			}
			state := t.ConnectionState()
			s.note("TLS %s, ALPN %q, name %q", tls.VersionName(state.Version), state.NegotiatedProtocol, state.ServerName)
			then(s, t)
		}
		out = append(out, exchange{
			name: "tcp/TLS/" + name, protocols: bytesPorts,
			client: func(c *side) {
				both(c, func(config *tls.Config) *tls.Conn { return tls.Client(c.conn, config) }, client)
			},
			server: func(s *side) {
				both(s, func(config *tls.Config) *tls.Conn { return tls.Server(s.conn, config) }, server)
			},
		})
	}
	ask := func(c *side, t *tls.Conn) {
		_, _ = t.Write(pattern(5000))
		c.allOf(t)
	}
	answer := func(s *side, t *tls.Conn) {
		b := make([]byte, 5000)
		n, err := io.ReadFull(t, b)
		s.note("reads %s, %s", text(b[:n]), ended(err))
		_, _ = t.Write(b)
		_ = t.Close()
	}
	x("1.3", &tls.Config{MinVersion: tls.VersionTLS13}, ask, answer)
	x("1.2", &tls.Config{MinVersion: tls.VersionTLS12, MaxVersion: tls.VersionTLS12}, ask, answer)
	x("ALPN h2", &tls.Config{NextProtos: []string{"h2", "http/1.1"}}, ask, answer)
	x("ALPN of its own", &tls.Config{NextProtos: []string{"mine/1"}}, ask, answer)
	x("client certificate", &tls.Config{ClientAuth: tls.RequireAnyClientCert}, ask, answer)
	x("client ends first", &tls.Config{}, func(c *side, t *tls.Conn) {
		_, _ = t.Write([]byte("hello"))
		_ = t.CloseWrite()
		c.allOf(t)
	}, func(s *side, t *tls.Conn) {
		s.allOf(t)
		_, _ = t.Write([]byte("bye"))
		_ = t.Close()
	})
	return out
}

// allOf reads to the end.
func (s *side) allOf(t *tls.Conn) {
	b, err := io.ReadAll(t)
	if err != nil {
		s.fail("reads %s, then %s", text(b), ended(err))
	}
	s.note("reads %s, then the end", text(b))
}

func certificate() (*tls.Certificate, error) {
	ca, err := sdstest.NewCA()
	if err != nil {
		return nil, err
	}
	return sdstest.Issue(ca, "spiffe://example.test/own", 0, time.Hour)
}
