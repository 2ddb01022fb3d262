package transparency

import (
	"fmt"
	"strings"
)

var httpPorts = []protocol{declaredHTTP, undeclared}

// ok is an ordinary answer.
const ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

// answered is one request with one answer.
func answered(name, request, response string) exchange {
	method, _, _ := strings.Cut(request, " ")
	return exchange{
		name: "http1/" + name, protocols: httpPorts,
		client: func(c *side) {
			c.sends(request)
			c.response(method)
		},
		server: func(s *side) {
			s.request()
			s.sends(response)
			if untilClose(method, response) {
				s.close()
			}
		},
	}
}

// untilClose tells whether the end of the connection is the end of the body.
func untilClose(method, response string) bool {
	head, _, _ := strings.Cut(response, "\r\n\r\n")
	lower := strings.ToLower(head)
	status := head[min(len(head), 9):min(len(head), 12)]
	return method != "HEAD" && !strings.Contains(lower, "content-length") && !strings.Contains(lower, "transfer-encoding") &&
		status != "204" && status != "304" && !strings.HasPrefix(status, "1")
}

// asking gives a request with these header lines.
func asking(start string, lines ...string) string {
	return start + "\r\n" + strings.Join(append([]string{"Host: example.test"}, lines...), "\r\n") + "\r\n\r\n"
}

func http1Exchanges() []exchange {
	var out []exchange
	for _, method := range []string{"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "PROPFIND", "PROPPATCH", "MKCOL", "COPY", "MOVE", "LOCK", "UNLOCK", "REPORT", "SEARCH", "LINK", "PURGE", "SUBSCRIBE"} {
		out = append(out, answered("method/"+method, asking(method+" /a HTTP/1.1", "Content-Length: 0"), ok))
	}
	for _, method := range []string{"LIST", "QUERY", "BAN", "VERSION-CONTROL", "BASELINE-CONTROL", "M-SEARCH", "get", "X_1.2!"} {
		out = append(out, answered("method beyond the usual/"+method, asking(method+" /a HTTP/1.1", "Content-Length: 0"), ok))
	}
	for _, c := range []struct{ name, target string }{
		{"root", "/"}, {"query", "/a?b=c&d=%20e"}, {"empty query", "/a?"}, {"two slashes", "/a//b"}, {"dots", "/a/../b"}, {"one dot", "/a/./b"},
		{"encoded dots", "/a/%2e%2e/b"}, {"encoded slash", "/a%2Fb"}, {"lower-case encoding", "/a%2fb"}, {"encoded percent", "/a%25b"},
		{"parameters", "/a;b=c/d"}, {"every character", "/-._~!$&'()*+,;=:@/?/?:@-._~!$&'()*+,;="}, {"trailing slash", "/a/"}, {"a URL inside", "/http://other.test/x"},
		{"1 kB", "/" + strings.Repeat("a", 1<<10)}, {"16 kB", "/" + strings.Repeat("a", 16<<10)}, {"50 kB", "/" + strings.Repeat("a", 50<<10)},
		{"backslash encoded", "/a%5Cb"}, {"UTF-8 encoded", "/%C3%A9"},
	} {
		out = append(out, answered("target/"+c.name, asking("GET "+c.target+" HTTP/1.1"), ok))
	}
	for _, c := range []struct{ name, request string }{
		{"absolute", asking("GET http://example.test/a?b HTTP/1.1")}, {"absolute without path", asking("GET http://example.test HTTP/1.1")},
		{"absolute with port", "GET http://example.test:8080/a HTTP/1.1\r\nHost: example.test:8080\r\n\r\n"},
		{"absolute, secure", asking("GET https://example.test/a HTTP/1.1")}, {"absolute, FTP", asking("GET ftp://example.test/a HTTP/1.1")},
		{"asterisk", asking("OPTIONS * HTTP/1.1")},
	} {
		out = append(out, answered("target in another form/"+c.name, c.request, ok))
	}
	out = append(out, connect()...)
	for _, c := range []struct{ name, line string }{
		{"case", "X-CaMeL: Value"}, {"doubled", "X-A: 1\r\nX-B: 2\r\nX-A: 3"}, {"empty value", "X-A:"}, {"no space", "X-A:b"}, {"spaces around", "X-A:   b  "}, {"tab inside", "X-A: b\tc"},
		{"obs-text", "X-A: \xe9\xff"}, {"underscore", "x_a: b"}, {"odd name", "X.a!#$%&'*+-^`|~9: b"}, {"8 kB", "X-A: " + strings.Repeat("a", 8<<10)}, {"40 kB", "X-A: " + strings.Repeat("a", 40<<10)},
		{"90 of them", strings.TrimSuffix(strings.Repeat("X-A: b\r\n", 90), "\r\n")}, {"cookies", "Cookie: a=b\r\nCookie: c=d"}, {"authorization", "Authorization: Basic YTpi"},
		{"accept-encoding", "Accept-Encoding: gzip, br;q=0.5"}, {"x-request-id", "X-Request-Id: mine"}, {"x-forwarded-for", "X-Forwarded-For: 192.0.2.1, 192.0.2.2"},
		{"forwarded", "Forwarded: for=192.0.2.1;proto=https"}, {"via", "Via: 1.1 somebody"}, {"traceparent", "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"},
		{"cache-control", "Cache-Control: no-cache\r\nPragma: no-cache"}, {"range", "Range: bytes=0-1"}, {"if-none-match", `If-None-Match: W/"a", "b"`}, {"user-agent", "User-Agent: a/1 (b; c)"},
		{"x-forwarded-proto", "X-Forwarded-Proto: https"}, {"x-envoy-original-path", "x-envoy-original-path: /b"}, {"date", "Date: Sat, 28 Nov 2026 12:00:00 GMT"}, {"proxy-authorization", "Proxy-Authorization: Basic YTpi"}, {"expires", "X-Number: 0"}, {"early-data", "Early-Data: 1"},
		{"quoted string", `X-A: "b\"c", d`}, {"content-type", "Content-Type: text/plain; charset=\"utf-8\""},
	} {
		out = append(out, answered("header/"+c.name, asking("GET / HTTP/1.1", c.line), ok),
			answered("header of an answer/"+c.name, asking("GET / HTTP/1.1"), "HTTP/1.1 200 OK\r\n"+c.line+"\r\nContent-Length: 2\r\n\r\nok"))
	}
	for _, c := range []struct{ name, line string }{
		{"x-envoy-internal", "x-envoy-internal: true"},
		{"x-envoy-retry-on", "x-envoy-retry-on: 5xx"}, {"x-envoy-upstream-rq-timeout-ms", "x-envoy-upstream-rq-timeout-ms: 60000"},
	} {
		out = append(out, answered("header of proxies/"+c.name, asking("GET / HTTP/1.1", c.line), ok))
	}
	for _, c := range []struct{ name, line string }{
		{"keep-alive", "Connection: keep-alive"}, {"close", "Connection: close"}, {"keep-alive with timeout", "Connection: keep-alive\r\nKeep-Alive: timeout=5"},
		{"named header", "Connection: X-Hop\r\nX-Hop: a"}, {"te", "Connection: TE\r\nTE: trailers"}, {"proxy-connection", "Proxy-Connection: keep-alive"},
	} {
		out = append(out, answered("hop-by-hop header/"+c.name, asking("GET / HTTP/1.1", c.line), ok),
			answered("hop-by-hop header of an answer/"+c.name, asking("GET / HTTP/1.1"), "HTTP/1.1 200 OK\r\n"+c.line+"\r\nContent-Length: 2\r\n\r\nok"))
	}
	for _, c := range []struct{ name, line string }{{"port", "Host: example.test:8080"}, {"upper case", "Host: EXAMPLE.test"}, {"empty", "Host:"}, {"IPv6", "Host: [::1]:80"}, {"trailing dot", "Host: example.test."}, {"underscore", "Host: a_b"}} {
		out = append(out, answered("host/"+c.name, "GET / HTTP/1.1\r\n"+c.line+"\r\n\r\n", ok))
	}
	out = append(out, exactHeads()...)
	return append(out, framings()...)
}

// exactHeads are compared as they are, with what elsewhere has no meaning.
func exactHeads() []exchange {
	exactly := func(name, request, response string) exchange {
		return exchange{
			name: "http1/exactly/" + name, protocols: httpPorts,
			client: func(c *side) {
				c.sends(request)
				m, _ := c.head()
				c.body(m, true)
				c.exact(m, "response")
			},
			server: func(s *side) {
				m := s.requestHead()
				s.body(m, true)
				s.exact(m, "request")
				s.sends(response)
			},
		}
	}
	dated := "HTTP/1.1 200 OK\r\nDate: Sat, 28 Nov 2026 12:00:00 GMT\r\nContent-Length: 2\r\n\r\nok"
	return []exchange{
		exactly("request headers", asking("GET / HTTP/1.1"), dated),
		exactly("response headers", asking("GET / HTTP/1.1", "X-Forwarded-Proto: http"), ok),
		exactly("order of headers", "GET / HTTP/1.1\r\nX-B: 1\r\nX-A: 2\r\nHost: example.test\r\nX-Forwarded-Proto: http\r\nX-C: 3\r\n\r\n", "HTTP/1.1 200 OK\r\nX-B: 1\r\nContent-Length: 2\r\nX-A: 2\r\nDate: Sat, 28 Nov 2026 12:00:00 GMT\r\n\r\nok"),
		exactly("chunks with extensions", asking("POST / HTTP/1.1", "X-Forwarded-Proto: http", "Transfer-Encoding: chunked")+"3;a=b\r\nabc\r\n2\r\nde\r\n0;last\r\n\r\n", dated),
	}
}

func connect() []exchange {
	tunnel := func(name, answer string, then func(c *side), server func(s *side)) exchange {
		return exchange{
			name: "http1/connect/" + name, protocols: httpPorts,
			client: func(c *side) {
				c.sends("CONNECT other.test:443 HTTP/1.1\r\nHost: other.test:443\r\n\r\n")
				c.response("CONNECT")
				then(c)
			},
			server: func(s *side) {
				s.request()
				s.sends(answer)
				server(s)
			},
		}
	}
	return []exchange{
		tunnel("echo", "HTTP/1.1 200 OK\r\n\r\n", func(c *side) { c.sends("ping"); c.receive(4) }, func(s *side) { s.send(s.receive(4)) }),
		tunnel("server closes", "HTTP/1.1 200 OK\r\n\r\n", func(c *side) { c.rest() }, func(s *side) { s.sends("bye"); s.close() }),
		tunnel("client half-closes", "HTTP/1.1 200 OK\r\n\r\n", func(c *side) { c.sends("end"); c.halfClose(); c.rest() }, func(s *side) { s.rest(); s.sends("bye"); s.close() }),
		tunnel("refused", "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n", func(*side) {}, func(*side) {}),
	}
}

// framings are where bodies begin and end.
func framings() []exchange {
	chunked := func(lines ...string) string {
		return asking("POST / HTTP/1.1", append([]string{"Transfer-Encoding: chunked"}, lines...)...)
	}
	var out []exchange
	for _, c := range []struct{ name, request string }{
		{"content-length", asking("POST / HTTP/1.1", "Content-Length: 5") + "hello"}, {"content-length 0", asking("POST / HTTP/1.1", "Content-Length: 0")},
		{"no body and no length", asking("POST / HTTP/1.1")}, {"chunked", chunked() + "5\r\nhello\r\n0\r\n\r\n"}, {"empty, chunked", chunked() + "0\r\n\r\n"},
		{"chunk extensions", chunked() + "5;a=b;c\r\nhello\r\n0\r\n\r\n"}, {"trailers", chunked("Trailer: X-T") + "5\r\nhello\r\n0\r\nX-T: a\r\n\r\n"},
		{"hex in upper case with zeros", chunked() + "00A\r\n0123456789\r\n0\r\n\r\n"}, {"one byte at a time", chunked() + "1\r\nh\r\n1\r\ni\r\n0\r\n\r\n"},
		{"body of a GET", asking("GET / HTTP/1.1", "Content-Length: 5") + "hello"}, {"body of a DELETE", asking("DELETE / HTTP/1.1", "Content-Length: 5") + "hello"},
		{"body of a GET, chunked", asking("GET / HTTP/1.1", "Transfer-Encoding: chunked") + "5\r\nhello\r\n0\r\n\r\n"}, {"Chunked in another case", asking("POST / HTTP/1.1", "Transfer-Encoding: Chunked") + "5\r\nhello\r\n0\r\n\r\n"},
		{"empty line before", "\r\n" + asking("GET / HTTP/1.1")}, {"transfer-encoding in another case", asking("POST / HTTP/1.1", "TRANSFER-ENCODING: chunked") + "5\r\nhello\r\n0\r\n\r\n"},
	} {
		x := answered("request framing/"+c.name, c.request, ok)
		x.server = func(s *side) {
			for s.peeks('\r') {
				s.line()
			}
			s.request()
			s.sends(ok)
		}
		out = append(out, x)
	}
	for _, version := range []string{"without keep-alive", "keep-alive"} {
		line := map[string]string{"without keep-alive": "X-A: b", "keep-alive": "Connection: keep-alive"}[version]
		out = append(out, answered("HTTP 1.0/request "+version, "GET / HTTP/1.0\r\nHost: example.test\r\n"+line+"\r\n\r\n", ok))
	}
	out = append(out, answered("HTTP 1.0/request without host", "GET / HTTP/1.0\r\n\r\n", ok))
	for _, c := range []struct{ name, response string }{
		{"answer until close", "HTTP/1.0 200 OK\r\n\r\nhello"}, {"answer with length", "HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello"}, {"answer keep-alive", "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 5\r\n\r\nhello"},
	} {
		out = append(out, answered("HTTP 1.0/"+c.name, asking("GET / HTTP/1.1"), c.response))
	}
	for _, c := range []struct{ name, method, response string }{
		{"until close", "GET", "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello"}, {"until close, unsaid", "GET", "HTTP/1.1 200 OK\r\n\r\nhello"}, {"chunked", "GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"},
		{"chunk extensions", "GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n0\r\n\r\n"}, {"trailers", "GET", "HTTP/1.1 200 OK\r\nTrailer: X-T\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-T: a\r\n\r\n"},
		{"empty", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"}, {"204", "GET", "HTTP/1.1 204 No Content\r\n\r\n"}, {"304", "GET", "HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\n\r\n"},
		{"304 with length", "GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n"}, {"HEAD with length", "HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"}, {"HEAD, chunked", "HEAD", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"},
		{"HEAD without length", "HEAD", "HTTP/1.1 200 OK\r\nX-A: b\r\n\r\n"}, {"205", "POST", "HTTP/1.1 205 Reset Content\r\nContent-Length: 0\r\n\r\n"}, {"206", "GET", "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-1/9\r\nContent-Length: 2\r\n\r\nok"},
	} {
		out = append(out, answered("response framing/"+c.name, asking(c.method+" / HTTP/1.1"), c.response))
	}
	for _, status := range []string{"200 OK", "200 All Is Well", "200 ", "201 Created", "202 Accepted", "203 X", "207 Multi-Status", "218 This is fine", "301 Moved Permanently", "302 Found", "303 See Other", "307 Temporary Redirect", "308 Permanent Redirect", "400 Bad Request", "401 Unauthorized", "403 Forbidden", "404 Not Found", "408 Request Timeout", "409 Conflict", "413 Content Too Large", "417 Expectation Failed", "418 I'm a teapot", "421 Misdirected Request", "425 Too Early", "426 Upgrade Required", "429 Too Many Requests", "431 Request Header Fields Too Large", "451 X", "500 Internal Server Error", "501 Not Implemented", "502 Bad Gateway", "503 Service Unavailable", "504 Gateway Timeout", "505 X", "507 Insufficient Storage", "599 Own"} {
		code, _, _ := strings.Cut(status, " ")
		out = append(out, answered(fmt.Sprintf("status/%s %q", code, status[4:]), asking("GET / HTTP/1.1"), "HTTP/1.1 "+status+"\r\nLocation: /b\r\nRetry-After: 1\r\nContent-Length: 2\r\n\r\nok"))
	}
	for _, c := range []struct{ name, request, response string }{
		{"request with length and chunked", asking("POST / HTTP/1.1", "Content-Length: 5", "Transfer-Encoding: chunked") + "5\r\nhello\r\n0\r\n\r\n", ok},
		{"request with chunked and length", asking("POST / HTTP/1.1", "Transfer-Encoding: chunked", "Content-Length: 5") + "5\r\nhello\r\n0\r\n\r\n", ok},
		{"response with length and chunked", asking("GET / HTTP/1.1"), "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"},
		{"transfer-encoding twice in the response", asking("GET / HTTP/1.1"), "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"},
		{"204 with transfer-encoding", asking("GET / HTTP/1.1"), "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n"},
	} {
		out = append(out, answered("framing that should not be/"+c.name, c.request, c.response))
	}
	return out
}
