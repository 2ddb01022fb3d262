package mesh

import (
	"regexp"
	"strings"
)

// Policies compare paths as they were sent. An application may read a path differently: it may decode escapes, resolve
// "..", merge "//", or cut off what follows ";". A path is plain if every application reads it as it was sent, so that a
// policy sees what the application sees. A path that is not plain matches nothing in an Allow, and everything in a Deny.
// Paths are never changed on their way.
//
// An escape is plain if its character needs one: UTF-8, and the ASCII characters that RFC 3986 does not allow bare. Many
// clients also escape delimiters, which do not need it. Such an escape is plain, unless the path of the policy contains
// delimiters or is an expression. https://www.rfc-editor.org/rfc/rfc3986#appendix-A
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

// PlainPath returns an expression that matches the paths that are plain when they are compared with value.
func PlainPath(value string) *regexp.Regexp {
	if strings.ContainsAny(value, delimiters) {
		return plainStrict
	}
	return plainUsual
}

// plain builds the expression. RE2 has no look-ahead to leave out "." and "..".
func plain(escapes string) string {
	other := `(?:[` + bareChars + `]|` + escapes + `)`
	char := `(?:[.]|` + other + `)`
	element := `(?:[.]{0,2}` + other + char + `*|[.]{3}` + char + `*)`
	return `^/(?:` + element + `(?:/` + element + `)*/?)?$`
}

// PlainPath returns an expression that matches the paths that are plain when they are compared with t.
func (t TextMatch) PlainPath() *regexp.Regexp {
	if t.Type == Regex {
		return plainStrict
	}
	return PlainPath(t.Value)
}
