package server

import (
	"maps"
	"slices"
)

// set holds names. It frees its memory when it becomes empty; a map that was once large would not.
type set map[string]struct{}

func (s set) has(name string) bool {
	_, ok := s[name]
	return ok
}

func (s *set) add(name string) {
	if *s == nil {
		*s = set{}
	}
	(*s)[name] = struct{}{}
}

func (s *set) remove(name string) {
	if delete(*s, name); len(*s) == 0 {
		*s = nil
	}
}

func (s set) sorted() []string { return slices.Sorted(maps.Keys(s)) }
