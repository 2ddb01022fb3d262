package webhookcert

import "github.com/mizzen-mesh/mizzen/internal/rotation"

// Keys of the signer in the Secret.
const (
	keySignerCert = "ca.crt"
	keySignerKey  = "ca.key"
)

// Decode reads a Secret's data: rotation.Decode.
func Decode(data map[string][]byte) (rotation.State, error) {
	return rotation.Decode(data, keySignerCert, keySignerKey)
}

// Encode gives the data that Decode reads.
func Encode(s rotation.State) (map[string][]byte, error) {
	return rotation.Encode(s, keySignerCert, keySignerKey)
}
