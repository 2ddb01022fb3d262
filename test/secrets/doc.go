// Package secrets holds what nobody may see: it runs the control plane's CA and identity server and an agent, and
// looks for their keys and tokens in everything that they print; and it looks for secrets in the repository.
package secrets
