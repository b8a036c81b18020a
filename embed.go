// Package zoo is the root of the module. It holds the index that the program ships with; the library is in the packages
// below it, first of all hub, host, graph and finetune.
package zoo

import _ "embed"

//go:embed registry.json
var registryJSON string

// RegistryJSON returns the index of models, weights and plugins as of this build, for hub/registry.Parse.
func RegistryJSON() []byte { return []byte(registryJSON) }
