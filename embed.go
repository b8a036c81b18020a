// Package zoo is the root of the module. It holds what the program ships with: the index of all models, and a hub with one small
// model. The library is in the packages below it: classifier to use models, sdk and graph to write families, and under these hub, host,
// finetune and the engines.
package zoo

import (
	"embed"
	"io/fs"
)

//go:embed registry.json
var registryJSON string

// RegistryJSON returns the index of models, weights and plugins as of this build, for hub/registry.Parse.
func RegistryJSON() []byte { return []byte(registryJSON) }

// embedded is an OCI image layout, made by internal/embedmodel.
//
//go:embed embedded
var embedded embed.FS

// EmbeddedHub returns the hub inside the program, an OCI image layout: resnet20 for the ten classes of CIFAR-10. The index lists its
// digests.
func EmbeddedHub() fs.FS {
	sub, err := fs.Sub(embedded, "embedded")
	if err != nil {
		panic(err) // the name is a constant
	}
	return sub
}
