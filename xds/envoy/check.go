package envoy

import "fmt"

// Check returns why Envoy would refuse one of these resources, or nil. It checks the rules in Envoy's API
// (protoc-gen-validate); Envoy itself checks more.
func Check(resources []Resource) error {
	for _, r := range resources {
		if m, ok := r.Message.(interface{ ValidateAll() error }); ok {
			if err := m.ValidateAll(); err != nil {
				return fmt.Errorf("%s: %w", r.Name, err)
			}
		}
	}
	return nil
}
