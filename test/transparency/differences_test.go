package transparency

import (
	"fmt"
	"regexp"
	"sync"
)

// difference is a known difference: exchanges whose result differs with sidecars, and in which ways. The table
// generates docs/transparency.md.
type difference struct {
	// what differs, in a few words; the name of the entry.
	what string
	// exchanges and ways are regular expressions for the whole of an exchange's name and of a way ("mesh to mesh, http").
	exchanges, ways string
	// sometimes is set if timing decides, so that an exchange may also have the same result.
	sometimes bool
	// seen is the effect, why the reason, and out the workaround.
	seen, why, out string
}

// Ways in regular expressions.
const (
	// callerReads: the caller's sidecar takes the connection for HTTP.
	callerReads = `mesh to (mesh|strict|plain|judged)(, routed)?, (http|grpc|undeclared)`
	// judgedReads: the server's sidecar does.
	judgedReads = `(mesh|plain) to judged, (http|grpc)`
	// httpReads: one of them does.
	httpReads = callerReads + `|` + judgedReads
	// looks: a sidecar detects the protocol from the first bytes.
	looks = `.*, undeclared|plain to mesh.*`
)

var differences = []difference{
	{
		what:      "unusual methods, at a port with a policy about requests",
		exchanges: `http1/method beyond the usual/.*`, ways: judgedReads,
		seen: "400", why: "an application may read a method that Envoy does not know as one that a policy denies", out: "a policy without `http`",
	},
	{
		what:      "a reset at an undeclared port",
		exchanges: `tcp/ends/(client|server) resets while the (client|server) waits`, ways: `mesh to (mesh|strict|plain), undeclared`,
		seen: "an end (FIN) in place of a reset", why: "Envoy could pass resets on between its internal listeners, but would then turn an ordinary end into a reset, too, and lose data on its way", out: "declare the port",
	},
	{
		what:      "a connection with one byte and its end",
		exchanges: `tcp/write and close/1 bytes`, ways: `mesh to (mesh|strict|plain), undeclared`, sometimes: true,
		seen: "the server gets nothing", why: "one byte may begin an HTTP request, and Envoy drops the connection if it ends while Envoy waits for the next byte", out: "declare the port (`appProtocol: tcp`)",
	},
	{
		what:      "the method QUERY without a Content-Type",
		exchanges: `http1/method beyond the usual/QUERY`, ways: `mesh to (mesh|strict|plain)(, routed)?, http`,
		seen: "400", why: "Envoy knows this method and requires a Content-Type", out: "send a Content-Type, or declare the port as `tcp`",
	},
	{
		what:      "absolute targets",
		exchanges: `http1/target in another form/absolute(| without path| with port|, secure)`, ways: httpReads,
		seen: "the server gets only the path, and the host in `Host`", why: "Envoy reads an absolute target as RFC 9112, 3.2.2 requires of a server, and writes the request line anew",
		out: "declare the port of a forward proxy as `tcp`; 3128 is `tcp` by default",
	},
	{
		what:      "targets that Envoy does not know",
		exchanges: `http1/target in another form/(absolute, FTP|asterisk)`, ways: httpReads,
		seen: "400 for a scheme other than http and https, 404 for `OPTIONS *`", why: "Envoy refuses them", out: "declare the port as `tcp`",
	},
	{
		what:      "tunnels to a port with a policy about requests",
		exchanges: `http1/connect/.*|http2/connect/plain`, ways: judgedReads,
		seen: "403", why: "policies cannot judge the content of a tunnel, so tunnels are refused", out: "a policy without `http` and `grpc`",
	},
	{
		what:      "a CONNECT tunnel in which the client closes its half",
		exchanges: `http1/connect/client half-closes`, ways: httpReads,
		seen: "what the server sends afterwards is lost", why: "Envoy ends a tunnel when one half ends", out: "declare the port as `tcp`",
	},
	{
		what:      "a refused CONNECT",
		exchanges: `http1/connect/refused`, ways: httpReads,
		seen: "the answer says `connection: close`", why: "Envoy does not use the connection again", out: "none is needed",
	},
	{
		what:      "paths that can be read in two ways, at a port with a policy about paths",
		exchanges: `http1/target/(two slashes|dots|one dot|encoded.*|lower-case encoding|parameters|every character|a URL inside|backslash encoded)|http2/target/(dots|encoded|two slashes)`, ways: judgedReads,
		seen: "403", why: "sidecars do not change paths. A path that a server may read in another way counts as denied", out: "a policy about methods or callers only",
	},
	{
		what:      "an end before any byte",
		exchanges: `tcp/ends/client opens and half-closes, server answers`, ways: `mesh to (mesh|strict|plain), undeclared`,
		seen: "the server sees no connection, and the client gets nothing", why: "a sidecar that waits for the first bytes drops a connection that ends before them", out: "declare the port (`appProtocol: tcp`)",
	},
	{
		what:      "a server that speaks first at an undeclared port",
		exchanges: `tcp/ends/server speaks first, .*`, ways: looks, sometimes: true,
		seen: "each connection waits for a second", why: "the sidecar waits for the client's first bytes, until a timeout shows that the client is silent", out: "declare the port (`appProtocol: tcp`); for callers without a sidecar exclude it from capture",
	},
	{
		what:      "a client without a sidecar that first sends less than five bytes",
		exchanges: `tcp/first bytes/(ZooKeeper, a word|gopher|one byte|GET alone)`, ways: `plain to mesh.*`, sometimes: true,
		seen: "each connection waits for a second", why: "the first bytes may begin a TLS handshake, so Envoy waits for more", out: "exclude the port from capture (`mizzen.dev/exclude-inbound-ports`)",
	},
	{
		what:      "HTTP/0.9",
		exchanges: `tcp/first bytes/HTTP/0.9`, ways: `mesh to (mesh|strict|plain), undeclared`,
		seen: "an HTTP/1.1 answer from the sidecar", why: "Envoy detects HTTP, but does not support this version", out: "declare the port (`appProtocol: tcp`)",
	},
	{
		what:      "an HTTP/1 client that half-closes",
		exchanges: `http1/ends/client half-closes after its request`, ways: callerReads,
		seen: "no answer", why: "Envoy treats the end of the client's half as the end of the connection", out: "declare the port as `tcp`",
	},
	{
		what:      "a server that closes without an answer",
		exchanges: `http1/ends/server (closes|resets) (before the answer|in the middle of the head)`, ways: httpReads,
		seen: "503 with a body that names a reset, on a connection that stays open", why: "HTTP requires an answer, so the sidecar makes one if the server does not", out: "none is needed",
	},
	{
		what:      "the end of an idle connection",
		exchanges: `http1/ends/(server closes after .*|client asks for the end)`, ways: httpReads,
		seen: "if the server closes after its answer, the client's connection stays open, and the client does not get `Connection: close`",
		why:  "the sidecar's connections to the client and to the server are independent; each request uses an open one", out: "none is needed",
	},
	{
		what:      "an answer before the end of the request",
		exchanges: `http1/early answers/to a body under way, read on`, ways: httpReads,
		seen: "the answer says `connection: close`, and the server gets no more of the body", why: "Envoy ends an HTTP/1 exchange with the answer", out: "read the body first, or declare the port as `tcp`",
	},
	{
		what:      "several informational answers",
		exchanges: `http1/informational answers/(100 and 103|103 twice)`, ways: httpReads,
		seen: "only the first one arrives", why: "Envoy passes on one", out: "declare the port as `tcp`",
	},
	{
		what:      "unknown upgrades",
		exchanges: `http1/upgrade/to (kmip|mine/1|IRC/6.9|raw)|http1/upgrade ignored/(TLS/1.2|mine/1|HTTP/2.0) .*`, ways: httpReads,
		seen: "the server does not see the offer, and answers as if it had ignored it", why: "Envoy passes on the upgrades in http.md and ignores others, as HTTP allows (RFC 9110, 7.8)", out: "declare the port as `tcp`",
	},
	{
		what:      "an upgraded connection of which one half ends",
		exchanges: `http1/upgrade/(client|server) half-closes`, ways: httpReads,
		seen: "what the other half still carries is lost", why: "Envoy ends an upgraded connection when one half ends", out: "declare the port as `tcp`",
	},
	{
		what:      "a POST with an upgrade and a body",
		exchanges: `http1/upgrade/a POST with bytes behind`, ways: httpReads,
		seen: "no answer (`docker exec`, `docker attach`)", why: "Envoy holds the body back until the upgrade is accepted", out: "declare the port as `tcp`; 2375 is `tcp` by default",
	},
	{
		what:      "an ordinary answer to an upgrade request",
		exchanges: `http1/upgrade ignored/websocket .*`, ways: httpReads,
		seen: "a 200 without its body; any answer says `connection: close`", why: "Envoy treats a 2xx as an upgrade, and does not use the connection again", out: "declare the port as `tcp`",
	},
	{
		what:      "the upgrade to HTTP/2 in clear text",
		exchanges: `http1/upgrade ignored/h2c .*`, ways: httpReads,
		seen: "`Upgrade: h2c` and its related headers do not arrive", why: "they are hop-by-hop, and Envoy ignores them, as the standard allows", out: "none is needed",
	},
	{
		what:      "an HTTP/2 answer before the end of the request",
		exchanges: `http2/early answers/whole, and the request goes on`, ways: httpReads,
		seen: "the server gets no more of the request", why: "Envoy ends an exchange with the answer", out: "declare the port as `tcp`",
	},
	{
		what:      "codes of HTTP/2 resets",
		exchanges: `http2/resets/(client, before the answer, (CANCEL|NO_ERROR|ENHANCE_YOUR_CALM|PROTOCOL_ERROR|REFUSED_STREAM)|server, in the middle of the answer, (CANCEL|NO_ERROR|ENHANCE_YOUR_CALM|PROTOCOL_ERROR|REFUSED_STREAM))|grpc/ends/(client cancels a stream|server resets with (CANCEL|NO_ERROR))`, ways: httpReads,
		seen: "INTERNAL_ERROR in place of the original code", why: "Envoy does not pass on the code", out: "declare the port as `tcp`",
	},
	{
		what:      "an HTTP/2 stream that is reset without an answer",
		exchanges: `http2/resets/server, before the answer, .*`, ways: httpReads,
		seen: "503 or 502 with a body that names a reset", why: "HTTP requires an answer, so the sidecar makes one if the server does not", out: "none is needed",
	},
	{
		what:      "cookies in several fields",
		exchanges: `http2/header( of an answer)?/cookies`, ways: httpReads,
		seen: "they arrive in one field", why: "Envoy joins them, as the standard allows (RFC 9113, 8.2.3)", out: "none is needed",
	},
	{
		what:      "host beside :authority",
		exchanges: `http2/header/host`, ways: httpReads,
		seen: "`host` does not arrive", why: "Envoy keeps only one of the two", out: "none is needed",
	},
	{
		what:      "several informational answers over HTTP/2",
		exchanges: `http2/informational answers/103 twice`, ways: httpReads,
		seen: "only the first one arrives", why: "Envoy passes on one", out: "declare the port as `tcp`",
	},
	{
		what:      "the method QUERY over HTTP/2",
		exchanges: `http2/method/QUERY`, ways: httpReads,
		seen: "400", why: "Envoy does not accept this method in HTTP/2", out: "declare the port as `tcp`",
	},
	{
		what:      "OPTIONS * over HTTP/2",
		exchanges: `http2/target/asterisk`, ways: httpReads,
		seen: "404", why: "no route matches `*`", out: "declare the port as `tcp`",
	},
	{
		what:      "a gRPC server that dies in the middle of a stream",
		exchanges: `grpc/ends/the server dies`, ways: httpReads,
		seen: "INTERNAL in place of UNAVAILABLE", why: "the sidecar resets the stream with INTERNAL_ERROR, and the client's connection stays", out: "declare the port as `tcp`",
	},
	{
		what:      "a gRPC server that ends before the client's half is closed",
		exchanges: `grpc/the server ends first/(1|100) messages.*`, ways: httpReads, sometimes: true,
		seen: "the part of an answer beyond 64 kB is lost, with the server's status; the client gets INTERNAL", why: "Envoy drops what it buffers for a slow client if the server's half of the stream ends before the client's", out: "declare the port as `tcp`",
	},
	{
		what:      "headers of Envoy",
		exchanges: `http1/header of proxies/.*`, ways: httpReads,
		seen: "`x-envoy-internal`, `x-envoy-retry-on` and some others do not arrive", why: "Envoy treats them as its own", out: "use other names",
	},
	{
		what:      "hop-by-hop headers",
		exchanges: `http1/hop-by-hop header.*`, ways: httpReads,
		seen: "`Connection` and the headers that it names, `Keep-Alive` and `Proxy-Connection` do not arrive",
		why:  "they are for the next hop only, which is the sidecar (RFC 9110, 7.6.1)", out: "none is needed",
	},
	{
		what:      "hop-by-hop headers over HTTP/2",
		exchanges: `http2/hop-by-hop header.*`, ways: httpReads,
		seen: "502, or a reset of the stream with PROTOCOL_ERROR", why: "HTTP/2 forbids them (RFC 9113, 8.2.2), and Envoy refuses them, as most clients and servers do", out: "fix the program, or declare the port as `tcp`",
	},
	{
		what:      "an application's own TLS at a port that is declared HTTP",
		exchanges: `tcp/TLS at a port of HTTP/.*`, ways: httpReads,
		seen: "the handshake fails: the sidecar answers 400 in plain text", why: "a sidecar reads the first bytes as HTTP", out: "declare `appProtocol: https`. A name alone does not make a port HTTP if its name, number or target port suggests TLS (http.md)",
	},
	{
		what:      "x-forwarded-proto and date",
		exchanges: `http1/exactly/(request|response) headers`, ways: httpReads,
		seen: "requests get `x-forwarded-proto`, and answers without `date` get that header", why: "Envoy adds them", out: "declare the port as `tcp`",
	},
	{
		what:      "order of headers",
		exchanges: `http1/exactly/order of headers`, ways: httpReads,
		seen: "`Host` comes first", why: "Envoy stores it separately; the order of different headers has no meaning (RFC 9110, 5.3)", out: "none is needed",
	},
	{
		what:      "chunk sizes and extensions",
		exchanges: `http1/exactly/chunks with extensions`, ways: httpReads,
		seen: "chunks have other sizes and no extensions", why: "both are hop-by-hop (RFC 9112, 7.1.1)", out: "none is needed",
	},
	{
		what:      "a message without a length",
		exchanges: `http1/(request framing/no body and no length|response framing/(205|HEAD without length|until close.*))`, ways: httpReads,
		seen: "a POST without a body gets `content-length: 0`; an answer that ends with the connection, or an answer to HEAD, becomes `chunked`",
		why:  "Envoy frames messages anew; the meaning is the same", out: "none is needed",
	},
	{
		what:      "trailer names in lower case",
		exchanges: `http1/(request|response) framing/trailers`, ways: httpReads,
		seen: "`x-t` for `X-T`", why: "Envoy keeps the case of header names only; case has no meaning", out: "none is needed",
	},
	{
		what:      "Transfer-Encoding in another case",
		exchanges: `http1/request framing/Chunked in another case`, ways: httpReads,
		seen: "`Chunked` arrives as `chunked`", why: "Envoy frames messages anew; case has no meaning", out: "none is needed",
	},
	{
		what:      "HTTP/1.0",
		exchanges: `http1/HTTP 1.0/.*`, ways: httpReads,
		seen: "requests and answers arrive as HTTP/1.1, without `Connection`", why: "Envoy uses its own version on each hop", out: "declare the port as `tcp`",
	},
	{
		what:      "a missing reason phrase",
		exchanges: `http1/status/200 ""`, ways: httpReads,
		seen: "`200 OK` for `200`", why: "Envoy adds the usual phrase; it has no meaning (RFC 9112, 4)", out: "none is needed",
	},
	{
		what:      "two framings at once",
		exchanges: `http1/framing that should not be/re.* with .*`, ways: httpReads,
		seen: "`Content-Length` does not arrive beside chunked; at a port with a policy about requests the answer is 400", why: "the chunked length counts (RFC 9112, 6.3); two lengths could smuggle a request past a policy", out: "fix the program, or declare the port as `tcp`",
	},
	{
		what:      "chunked twice, or in a 204",
		exchanges: `http1/framing that should not be/(transfer-encoding twice.*|204.*)`, ways: httpReads,
		seen: "502", why: "Envoy refuses what the standard forbids", out: "fix the program, or declare the port as `tcp`",
	},
}

// whole makes a regular expression match a whole text.
func whole(expression string) *regexp.Regexp {
	return regexp.MustCompile(fmt.Sprintf("^(?:%s)$", expression))
}

// patterns are the expressions of differences.
var patterns = func() (out []struct{ exchanges, ways *regexp.Regexp }) {
	for _, d := range differences {
		out = append(out, struct{ exchanges, ways *regexp.Regexp }{whole(d.exchanges), whole(d.ways)})
	}
	return out
}()

// known returns the entry for an exchange in a way, or nil.
func known(exchange string, w way) *difference {
	key := exchange + " — " + w.String()
	if d, ok := found.Load(key); ok {
		return d.(*difference)
	}
	var d *difference
	for i, p := range patterns {
		if p.exchanges.MatchString(exchange) && p.ways.MatchString(w.String()) {
			d = &differences[i]
			break
		}
	}
	found.Store(key, d)
	return d
}

// found caches the results of known.
var found sync.Map
