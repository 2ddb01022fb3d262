package transparency

import (
	"fmt"
	"regexp"
	"sync"
)

// difference is a known one: exchanges that come out otherwise with sidecars, and in which ways. The table makes
// docs/transparency.md.
type difference struct {
	// what changes, in a few words; it names the entry.
	what string
	// exchanges and ways are regular expressions for the whole of an exchange's name and of a way ("mesh to mesh, http").
	exchanges, ways string
	// sometimes is set where chance decides, so that an exchange may also come out the same.
	sometimes bool
	// seen is what the user sees, why the reason, and out the way out.
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
	// looks: a sidecar looks for what the first bytes are.
	looks = `.*, undeclared|plain to mesh.*`
)

var differences = []difference{
	{
		what:      "methods beyond the usual ones, at a port with a policy of requests",
		exchanges: `http1/method beyond the usual/.*`, ways: judgedReads,
		seen: "400", why: "an application may take a method that Envoy does not know for one that a policy denies", out: "a policy without `http`",
	},
	{
		what:      "a reset at an undeclared port",
		exchanges: `tcp/ends/(client|server) resets while the (client|server) waits`, ways: `mesh to (mesh|strict|plain), undeclared`,
		seen: "an end in place of a reset", why: "Envoy can pass resets on inside of itself, but then an ordinary end becomes one, too, and what is on its way is lost", out: "declare the port",
	},
	{
		what:      "one byte that comes with the end",
		exchanges: `tcp/write and close/1 bytes`, ways: `mesh to (mesh|strict|plain), undeclared`, sometimes: true,
		seen: "the server gets nothing", why: "one byte may be the beginning of an HTTP request, and Envoy closes while it waits for the next", out: "declare the port (`appProtocol: tcp`)",
	},
	{
		what:      "the method QUERY without a Content-Type",
		exchanges: `http1/method beyond the usual/QUERY`, ways: `mesh to (mesh|strict|plain)(, routed)?, http`,
		seen: "400", why: "Envoy knows the method, which needs one", out: "send one, or declare the port as `tcp`",
	},
	{
		what:      "absolute targets",
		exchanges: `http1/target in another form/absolute(| without path| with port|, secure)`, ways: httpReads,
		seen: "the server gets the path alone, and the host in `Host`", why: "Envoy reads an absolute target as the standard asks of a server (RFC 9112, 3.2.2) and writes its own",
		out: "declare the port of a forward proxy as `tcp`; 3128 is taken for one",
	},
	{
		what:      "targets that Envoy does not know",
		exchanges: `http1/target in another form/(absolute, FTP|asterisk)`, ways: httpReads,
		seen: "400 for a scheme other than http and https, 404 for `OPTIONS *`", why: "Envoy refuses them", out: "declare the port as `tcp`",
	},
	{
		what:      "tunnels to a port with a policy of requests",
		exchanges: `http1/connect/.*|http2/connect/plain`, ways: judgedReads,
		seen: "403", why: "what goes through a tunnel is not judged, so there is none", out: "a policy without `http` and `grpc`",
	},
	{
		what:      "a CONNECT tunnel of which the client closes its half",
		exchanges: `http1/connect/client half-closes`, ways: httpReads,
		seen: "what the server says after it is lost", why: "Envoy ends a tunnel with its first half", out: "declare the port as `tcp`",
	},
	{
		what:      "a CONNECT that is refused",
		exchanges: `http1/connect/refused`, ways: httpReads,
		seen: "the answer says `connection: close`", why: "Envoy does not use the connection again", out: "none is needed",
	},
	{
		what:      "paths that can be read in two ways, at a port with a policy of paths",
		exchanges: `http1/target/(two slashes|dots|one dot|encoded.*|lower-case encoding|parameters|every character|a URL inside|backslash encoded)|http2/target/(dots|encoded|two slashes)`, ways: judgedReads,
		seen: "403", why: "a path is not changed, so one that a server may read otherwise is taken for one that is denied", out: "a policy that looks at methods or callers",
	},
	{
		what:      "an end before any byte",
		exchanges: `tcp/ends/client opens and half-closes, server answers`, ways: `mesh to (mesh|strict|plain), undeclared`,
		seen: "the server sees no connection, the client gets nothing", why: "a sidecar that waits for first bytes drops a connection that ends before them", out: "declare the port (`appProtocol: tcp`)",
	},
	{
		what:      "a server that speaks first at an undeclared port",
		exchanges: `tcp/ends/server speaks first, .*`, ways: looks, sometimes: true,
		seen: "a second of waiting for each connection", why: "a sidecar looks at what the client says first, and only its silence tells that it says nothing", out: "declare the port (`appProtocol: tcp`); for plain callers exclude it from capture",
	},
	{
		what:      "a plain client that says less than five bytes first",
		exchanges: `tcp/first bytes/(ZooKeeper, a word|gopher|one byte|GET alone)`, ways: `plain to mesh.*`, sometimes: true,
		seen: "a second of waiting for each connection", why: "the first bytes may be the beginning of TLS, so Envoy waits for more", out: "exclude the port from capture (`mizzen.dev/exclude-inbound-ports`)",
	},
	{
		what:      "HTTP/0.9",
		exchanges: `tcp/first bytes/HTTP/0.9`, ways: `mesh to (mesh|strict|plain), undeclared`,
		seen: "an HTTP/1.1 answer of the sidecar", why: "Envoy takes the line for HTTP and does not know this version", out: "declare the port (`appProtocol: tcp`)",
	},
	{
		what:      "an HTTP/1 client that half-closes",
		exchanges: `http1/ends/client half-closes after its request`, ways: callerReads,
		seen: "no answer", why: "Envoy takes the end of the client's half for the end of the connection", out: "declare the port as `tcp`",
	},
	{
		what:      "a server that closes without an answer",
		exchanges: `http1/ends/server (closes|resets) (before the answer|in the middle of the head)`, ways: httpReads,
		seen: "503 with a body that names a reset, on a connection that stays", why: "a request needs an answer, and the sidecar gives one where the server does not", out: "none is needed",
	},
	{
		what:      "the end of an idle connection",
		exchanges: `http1/ends/(server closes after .*|client asks for the end)`, ways: httpReads,
		seen: "a server that closes after its answer does not close the client's connection, nor does its `Connection: close` arrive",
		why:  "connections of the client and to the server are apart; each request finds one that is open", out: "none is needed",
	},
	{
		what:      "an answer before the end of the request",
		exchanges: `http1/early answers/to a body under way, read on`, ways: httpReads,
		seen: "the answer says `connection: close`, and the server gets no more of the body", why: "for Envoy an HTTP/1 exchange ends with the answer", out: "read the body first, or declare the port as `tcp`",
	},
	{
		what:      "several informational answers",
		exchanges: `http1/informational answers/(100 and 103|103 twice)`, ways: httpReads,
		seen: "the first one only", why: "Envoy passes one on", out: "declare the port as `tcp`",
	},
	{
		what:      "upgrades that are not known",
		exchanges: `http1/upgrade/to (kmip|mine/1|IRC/6.9|raw)|http1/upgrade ignored/(TLS/1.2|mine/1|HTTP/2.0) .*`, ways: httpReads,
		seen: "the server does not see the wish, and answers as if it had ignored it", why: "Envoy passes on upgrades that it is told of (http.md); others it ignores, as HTTP allows (RFC 9110, 7.8)", out: "declare the port as `tcp`",
	},
	{
		what:      "half of an upgraded connection",
		exchanges: `http1/upgrade/(client|server) half-closes`, ways: httpReads,
		seen: "what comes from the other half is lost", why: "Envoy ends an upgraded connection with its first half", out: "declare the port as `tcp`",
	},
	{
		what:      "a POST that becomes a stream",
		exchanges: `http1/upgrade/a POST with bytes behind`, ways: httpReads,
		seen: "no answer (`docker exec`, `docker attach`)", why: "Envoy holds the body back until the upgrade is accepted", out: "declare the port as `tcp`; 2375 is taken for it",
	},
	{
		what:      "an ordinary answer to a wish to upgrade",
		exchanges: `http1/upgrade ignored/websocket .*`, ways: httpReads,
		seen: "a 200 without its body; any answer says `connection: close`", why: "Envoy takes a 2xx for an upgrade, and does not use the connection again", out: "declare the port as `tcp`",
	},
	{
		what:      "the wish for HTTP/2 in clear text",
		exchanges: `http1/upgrade ignored/h2c .*`, ways: httpReads,
		seen: "`Upgrade: h2c` and what belongs to it do not arrive", why: "they are for one hop, and Envoy ignores them as the standard allows", out: "none is needed",
	},
	{
		what:      "an HTTP/2 answer before the end of the request",
		exchanges: `http2/early answers/whole, and the request goes on`, ways: httpReads,
		seen: "the server gets no more of the request", why: "for Envoy an exchange ends with the answer", out: "declare the port as `tcp`",
	},
	{
		what:      "codes of HTTP/2 resets",
		exchanges: `http2/resets/(client, before the answer, (CANCEL|NO_ERROR|ENHANCE_YOUR_CALM|PROTOCOL_ERROR|REFUSED_STREAM)|server, in the middle of the answer, (CANCEL|NO_ERROR|ENHANCE_YOUR_CALM|PROTOCOL_ERROR|REFUSED_STREAM))|grpc/ends/(client cancels a stream|server resets with (CANCEL|NO_ERROR))`, ways: httpReads,
		seen: "INTERNAL_ERROR in place of other codes", why: "Envoy does not pass the code on", out: "declare the port as `tcp`",
	},
	{
		what:      "an HTTP/2 stream that is reset without an answer",
		exchanges: `http2/resets/server, before the answer, .*`, ways: httpReads,
		seen: "503 or 502 with a body that names a reset", why: "a request needs an answer, and the sidecar gives one where the server does not", out: "none is needed",
	},
	{
		what:      "cookies in several fields",
		exchanges: `http2/header( of an answer)?/cookies`, ways: httpReads,
		seen: "they arrive in one", why: "Envoy joins them, as the standard allows (RFC 9113, 8.2.3)", out: "none is needed",
	},
	{
		what:      "host beside :authority",
		exchanges: `http2/header/host`, ways: httpReads,
		seen: "`host` does not arrive", why: "Envoy has one of both", out: "none is needed",
	},
	{
		what:      "several informational answers over HTTP/2",
		exchanges: `http2/informational answers/103 twice`, ways: httpReads,
		seen: "the first one only", why: "Envoy passes one on", out: "declare the port as `tcp`",
	},
	{
		what:      "the method QUERY over HTTP/2",
		exchanges: `http2/method/QUERY`, ways: httpReads,
		seen: "400", why: "Envoy's list of methods does not have it", out: "declare the port as `tcp`",
	},
	{
		what:      "OPTIONS * over HTTP/2",
		exchanges: `http2/target/asterisk`, ways: httpReads,
		seen: "404", why: "no path matches it", out: "declare the port as `tcp`",
	},
	{
		what:      "a gRPC server that dies in the middle of a stream",
		exchanges: `grpc/ends/the server dies`, ways: httpReads,
		seen: "INTERNAL in place of UNAVAILABLE", why: "the sidecar resets the stream with INTERNAL_ERROR, and the client's connection stays", out: "declare the port as `tcp`",
	},
	{
		what:      "a gRPC server that ends before the client's half is closed",
		exchanges: `grpc/the server ends first/(1|100) messages.*`, ways: httpReads, sometimes: true,
		seen: "of more than 64 kB the rest is lost, with the server's status: INTERNAL", why: "Envoy drops what it holds for a slow client when the server's stream is over before the client's", out: "declare the port as `tcp`",
	},
	{
		what:      "headers that belong to Envoy",
		exchanges: `http1/header of proxies/.*`, ways: httpReads,
		seen: "`x-envoy-internal`, `x-envoy-retry-on` and some others do not arrive", why: "Envoy takes them for its own", out: "use other names",
	},
	{
		what:      "headers of one hop",
		exchanges: `http1/hop-by-hop header.*`, ways: httpReads,
		seen: "`Connection` and what it names, `Keep-Alive` and `Proxy-Connection` do not go on",
		why:  "they are for the next hop only, which is a sidecar (RFC 9110, 7.6.1)", out: "none is needed",
	},
	{
		what:      "headers of one hop over HTTP/2",
		exchanges: `http2/hop-by-hop header.*`, ways: httpReads,
		seen: "502, or a reset of the stream with PROTOCOL_ERROR", why: "HTTP/2 has none (RFC 9113, 8.2.2), and Envoy refuses them; most clients and servers do", out: "mend the program, or declare the port as `tcp`",
	},
	{
		what:      "an application's own TLS at a port that says HTTP",
		exchanges: `tcp/TLS at a port of HTTP/.*`, ways: httpReads,
		seen: "the handshake fails: the sidecar answers 400 in plain text", why: "a sidecar reads the first bytes as HTTP", out: "say `appProtocol: https`. A port is not taken for HTTP by its name alone where the name, its number or the target port speak for TLS (http.md)",
	},
	{
		what:      "x-forwarded-proto and date",
		exchanges: `http1/exactly/(request|response) headers`, ways: httpReads,
		seen: "requests have one `x-forwarded-proto`, answers without `date` get one", why: "Envoy adds them", out: "declare the port as `tcp`",
	},
	{
		what:      "order of headers",
		exchanges: `http1/exactly/order of headers`, ways: httpReads,
		seen: "`Host` is the first", why: "Envoy keeps it apart; the order of different headers has no meaning (RFC 9110, 5.3)", out: "none is needed",
	},
	{
		what:      "chunks",
		exchanges: `http1/exactly/chunks with extensions`, ways: httpReads,
		seen: "other sizes of chunks, and no extensions", why: "they are for one hop only (RFC 9112, 7.1.1)", out: "none is needed",
	},
	{
		what:      "a length that was not said",
		exchanges: `http1/(request framing/no body and no length|response framing/(205|HEAD without length|until close.*))`, ways: httpReads,
		seen: "a POST without a body says `content-length: 0`; an answer that ends with the connection, or one to HEAD, is `chunked`",
		why:  "Envoy frames messages anew; they mean the same", out: "none is needed",
	},
	{
		what:      "names of trailers in lower case",
		exchanges: `http1/(request|response) framing/trailers`, ways: httpReads,
		seen: "`x-t` for `X-T`", why: "Envoy keeps the case of headers only; it has no meaning", out: "none is needed",
	},
	{
		what:      "Transfer-Encoding in another case",
		exchanges: `http1/request framing/Chunked in another case`, ways: httpReads,
		seen: "`Chunked` arrives as `chunked`", why: "Envoy frames messages anew; the case has no meaning", out: "none is needed",
	},
	{
		what:      "HTTP/1.0",
		exchanges: `http1/HTTP 1.0/.*`, ways: httpReads,
		seen: "requests and answers arrive as HTTP/1.1, and `Connection` is not passed on", why: "Envoy speaks its own version on each hop", out: "declare the port as `tcp`",
	},
	{
		what:      "a missing reason phrase",
		exchanges: `http1/status/200 ""`, ways: httpReads,
		seen: "`200 OK` for `200`", why: "Envoy fills in the usual one; it has no meaning (RFC 9112, 4)", out: "none is needed",
	},
	{
		what:      "two framings at once",
		exchanges: `http1/framing that should not be/re.* with .*`, ways: httpReads,
		seen: "`Content-Length` does not arrive beside chunked; at a port with a policy of requests 400", why: "the chunks count (RFC 9112, 6.3); where requests are judged two lengths are how others are smuggled past", out: "mend the program, or declare the port as `tcp`",
	},
	{
		what:      "chunked twice, or in a 204",
		exchanges: `http1/framing that should not be/(transfer-encoding twice.*|204.*)`, ways: httpReads,
		seen: "502", why: "Envoy refuses what the standard forbids", out: "mend the program, or declare the port as `tcp`",
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

// known gives the entry for an exchange in a way, nil if there is none.
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

// found is what known has found already.
var found sync.Map
