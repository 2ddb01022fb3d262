package envoy

import "fmt"

// Check says why Envoy would refuse one of these resources, as far as the rules that stand in Envoy's API
// tell (protoc-gen-validate); nil if they hold.
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
