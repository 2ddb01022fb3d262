package mesh

import (
	"fmt"
	"regexp"
	"regexp/syntax"
	"unicode"
	"unicode/utf8"
)

// maxProgram bounds the estimated size of a regular expression's program. Envoy refuses the whole
// route configuration for one above 32 Ki instructions (re2.max_program_size.error_level in the
// bootstrap), and each one costs every sidecar memory, so the bound is well below it.
const maxProgram = 8 << 10

// unicodeClass finds \p{…}: Go and Envoy's RE2 know different names and versions of Unicode.
var unicodeClass = regexp.MustCompile(`\\[pP]`)

// checkRegex returns what is wrong with a regular expression, or "". Go's syntax is RE2's with two exceptions, Unicode
// classes and sizes, which are refused.
func checkRegex(text string) string {
	if text == "" {
		return "it is empty" // Envoy refuses it
	}
	tree, err := syntax.Parse(text, syntax.Perl)
	if err != nil {
		return err.Error()
	}
	if unicodeClass.MatchString(text) {
		return `a Unicode class, such as \pL, is not allowed`
	}
	if size := programSize(tree); size > maxProgram {
		return fmt.Sprintf("the compiled expression has about %d instructions, more than %d", size, maxProgram)
	}
	return ""
}

// programSize returns an upper bound of the number of instructions that RE2 compiles a tree to. RE2's program works on
// the bytes of UTF-8, so a class of runes takes more than one instruction.
func programSize(re *syntax.Regexp) int {
	const enough = 1 << 30 // saturate: repeats multiply
	size := 2              // the node's own: alternatives, captures, empty matches
	switch re.Op {
	case syntax.OpLiteral:
		for _, r := range re.Rune {
			size += utf8.RuneLen(max(r, 0))
			if re.Flags&syntax.FoldCase != 0 {
				for f := unicode.SimpleFold(r); f != r; f = unicode.SimpleFold(f) {
					size += 1 + utf8.UTFMax
				}
			}
		}
	case syntax.OpCharClass:
		for i := 0; i+1 < len(re.Rune); i += 2 {
			size += rangeSize(re.Rune[i+1])
		}
	case syntax.OpAnyChar, syntax.OpAnyCharNotNL:
		size += 2 * rangeSize(utf8.MaxRune)
	}
	for _, sub := range re.Sub {
		size += programSize(sub)
	}
	if re.Op == syntax.OpRepeat {
		times := max(re.Max, re.Min+1, 1) // x{2,} is xxx*
		if size > enough/times {
			return enough
		}
		size *= times
	}
	return min(size, enough)
}

// rangeSize returns an upper bound for one range of runes that ends at hi. For each length of the UTF-8 encoding, the range
// splits into at most three pieces, each of at most as many instructions as bytes.
func rangeSize(hi rune) int {
	if hi < utf8.RuneSelf {
		return 1
	}
	return 24
}
