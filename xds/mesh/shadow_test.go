package mesh

import "testing"

func TestCovers(t *testing.T) {
	prefix := func(v string) TextMatch { return TextMatch{Prefix, v} }
	exact := func(v string) TextMatch { return TextMatch{Exact, v} }
	regex := func(v string) TextMatch { return TextMatch{Regex, v} }
	for name, c := range map[string]struct {
		a, b TextMatch
		want bool
	}{
		"everything":                          {prefix("/"), regex(".*"), true},
		"prefix of a prefix":                  {prefix("/a"), prefix("/a/b"), true},
		"the same prefix":                     {prefix("/a"), prefix("/a"), true},
		"prefix by characters only":           {prefix("/a"), prefix("/ab"), false},
		"longer prefix":                       {prefix("/a/b"), prefix("/a"), false},
		"prefix of an exact path":             {prefix("/a"), exact("/a/"), true},
		"prefix of another exact path":        {prefix("/a"), exact("/ab"), false},
		"prefix of an expression":             {prefix("/a"), regex("/a/[0-9]+"), true},
		"prefix of an expression that leaves": {prefix("/a"), regex("/a.*"), false},
		"exact":                               {exact("/a"), exact("/a"), true},
		"exact and prefix":                    {exact("/a"), prefix("/a"), false},
		"expression of an exact path":         {regex("/a|/b"), exact("/b"), true},
		"expression, whole text":              {regex("/a"), exact("/a/b"), false},
		"all texts of the prefix":             {regex("/a.*"), prefix("/a/b"), true},
		"the prefix itself is left":           {regex("/a/.*"), prefix("/a"), false},
		"any path":                            {regex("/.*"), prefix("/a"), true},
		"no path at all is left":              {regex("/.*"), prefix("/"), false},
		"any text":                            {regex(".*"), prefix("/"), true},
		"any text but none":                   {regex(".+"), prefix("/"), false},
		"case":                                {regex("(?i)/a.*"), prefix("/a"), false},
		"expression of an expression":         {regex("/a.*"), regex("/a/b[0-9]"), true},
		"expression of alternatives":          {regex("/a.*"), regex("/a|/b"), false},
		"same expression":                     {regex("[a-z]"), regex("[a-z]"), true},
	} {
		if got := (Match{Path: c.a}).Covers(Match{Path: c.b}); got != c.want {
			t.Errorf("%s: got %t", name, got)
		}
	}
	all, one := prefix("/"), FieldMatch{"x", exact("1")}
	for name, c := range map[string]struct {
		a, b Match
		want bool
	}{
		"method":               {Match{Path: all, Method: "GET"}, Match{Path: all, Method: "GET"}, true},
		"any method":           {Match{Path: all}, Match{Path: all, Method: "GET"}, true},
		"one method":           {Match{Path: all, Method: "GET"}, Match{Path: all}, false},
		"fewer headers":        {Match{Path: all, Headers: []FieldMatch{one}}, Match{Path: all, Headers: []FieldMatch{{"y", exact("1")}, one}}, true},
		"more headers":         {Match{Path: all, Headers: []FieldMatch{one}}, Match{Path: all}, false},
		"other value":          {Match{Path: all, Headers: []FieldMatch{one}}, Match{Path: all, Headers: []FieldMatch{{"x", exact("2")}}}, false},
		"value of expression":  {Match{Path: all, Query: []FieldMatch{{"x", regex("1|2")}}}, Match{Path: all, Query: []FieldMatch{one}}, true},
		"header and parameter": {Match{Path: all, Query: []FieldMatch{one}}, Match{Path: all, Headers: []FieldMatch{one}}, false},
	} {
		if got := c.a.Covers(c.b); got != c.want {
			t.Errorf("%s: got %t", name, got)
		}
	}
}

func TestSamePrecedence(t *testing.T) {
	a := Rule{Match: Match{Path: TextMatch{Prefix, "/a"}}, Origin: Origin{Rule: 1}}
	b := Rule{Match: Match{Path: TextMatch{Prefix, "/b"}}}
	c := Rule{Match: Match{Path: TextMatch{Prefix, "/bc"}}}
	if !SamePrecedence(a, b) || SamePrecedence(a, c) {
		t.Error("want a and b alike, a and c not")
	}
}
