package webhookcert

import (
	"time"

	"github.com/mizzen-mesh/mizzen/internal/ca"
	"github.com/mizzen-mesh/mizzen/internal/rotation"
)

// DefaultLifetimes is what a mesh uses unless flags say otherwise. A CA that is replaced stays in the
// caBundle until it expires.
var DefaultLifetimes = rotation.Lifetimes{
	CA:         ca.Options{CommonName: "mizzen webhook CA"},
	CALifetime: 365 * 24 * time.Hour, LeafLifetime: 24 * time.Hour, Settle: 10 * time.Minute,
}
