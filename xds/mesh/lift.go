package mesh

// liftFilters makes the filters of a rule's only backend filters of the rule. If the rule has several backends, Envoy can
// change headers for each, but not the path, the location or the mirrors.
func (r *routeRule) liftFilters(f *faults) {
	for i := range r.backends {
		b := &r.backends[i]
		own := b.filters
		r.filters.unresolved = append(r.filters.unresolved, own.unresolved...)
		if len(r.backends) > 1 {
			if own.redirect != nil || own.rewrite != (Rewrite{}) || len(own.mirrors) > 0 || own.cors != nil || own.auth != nil {
				f.add(b.field+".filters", "RequestRedirect, URLRewrite, RequestMirror, CORS or ExternalAuth",
					"header modifiers, the only filters of one of several backends; put other filters on the rule")
			}
			continue
		}
		r.filters.request = r.filters.request.then(own.request)
		r.filters.response = r.filters.response.then(own.response)
		if own.redirect != nil {
			r.filters.redirect = own.redirect
		}
		if own.rewrite.Hostname != "" {
			r.filters.rewrite.Hostname = own.rewrite.Hostname
		}
		if own.rewrite.Path != nil {
			r.filters.rewrite.Path = own.rewrite.Path
		}
		r.filters.mirrors = append(r.filters.mirrors, own.mirrors...)
		if own.cors != nil {
			r.filters.cors = own.cors
		}
		if own.auth != nil {
			r.filters.auth = own.auth
		}
		b.filters = filters{}
	}
}

// checkRewrites finds filters that exclude each other.
func checkRewrites(r routeRule, field string, f *faults) {
	if r.filters.redirect != nil && r.filters.rewrite != (Rewrite{}) {
		f.add(field+".filters", "RequestRedirect, URLRewrite", "one of them")
	}
	paths := []*PathChange{r.filters.rewrite.Path}
	if r.filters.redirect != nil {
		paths = append(paths, r.filters.redirect.Path)
	}
	for _, p := range paths {
		if p == nil || p.Full {
			continue
		}
		for _, m := range r.matches {
			if m.Path.Type != Prefix {
				f.add(field+".filters", "ReplacePrefixMatch", "a PathPrefix in each match of the rule")
				return
			}
		}
	}
}
