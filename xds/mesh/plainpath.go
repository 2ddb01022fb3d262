package mesh

import (
	"regexp"
	"strings"
)

// Paths are compared as they were sent, and an application may read one otherwise than it stands: decode escapes,
// resolve "..", merge "//", cut off what follows ";". A path is plain if all of them read it as it stands, so that a
// policy that has looked at it has seen what the application sees. Others match nothing of an Allow and everything
// of a Deny. They are never changed on their way.
//
// Escapes are plain where a character needs one: those of UTF-8, and of ASCII that RFC 3986 does not allow bare.
// Those of its delimiters are, unless the path that is compared has delimiters itself, or is an expression: many
// clients escape them without need. https://www.rfc-editor.org/rfc/rfc3986#appendix-A
const (
	bareChars     = `A-Za-z0-9_~!$&'()*+,=:@-` // and the dot
	delimiters    = "!$&'()*+,=:@"
	neededEscapes = `%20|%22|%3[CEce]|%5[BDEbde]|%60|%7[BCDbcd]` +
		`|` + twoBytes + `|` + threeBytes + `|` + fourBytes
	otherEscapes = `%2[146789ABCabc]|%3[ADad]|%40`

	continued  = `%[89ABab][0-9A-Fa-f]`
	twoBytes   = `%(?:[Cc][2-9A-Fa-f]|[Dd][0-9A-Fa-f])` + continued
	threeBytes = `(?:%[Ee]0%[ABab][0-9A-Fa-f]|%[Ee][1-9A-Fa-f]` + continued + `)` + continued
	fourBytes  = `(?:%[Ff]0%[9ABab][0-9A-Fa-f]|%[Ff][1-3]` + continued + `|%[Ff]4%8[0-9A-Fa-f])` + continued + continued
)

var (
	plainStrict = regexp.MustCompile(plain(neededEscapes))
	plainUsual  = regexp.MustCompile(plain(neededEscapes + `|` + otherEscapes))
)

// PlainPath matches the paths that are plain where they are compared with value.
func PlainPath(value string) *regexp.Regexp {
	if strings.ContainsAny(value, delimiters) {
		return plainStrict
	}
	return plainUsual
}

// plain is in RE2, which has no look-ahead to leave out "." and "..".
func plain(escapes string) string {
	other := `(?:[` + bareChars + `]|` + escapes + `)`
	char := `(?:[.]|` + other + `)`
	element := `(?:[.]{0,2}` + other + char + `*|[.]{3}` + char + `*)`
	return `^/(?:` + element + `(?:/` + element + `)*/?)?$`
}

// PlainPath matches the paths that are plain where they are compared with m.
func (t TextMatch) PlainPath() *regexp.Regexp {
	if t.Type == Regex {
		return plainStrict
	}
	return PlainPath(t.Value)
}
