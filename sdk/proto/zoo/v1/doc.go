// Package zoov1 is the generated code of the contract between zoo and plugin processes. plugin.proto, beside this file,
// is its reference; docs/plugins.md is the guide.
package zoov1

// The generator is buf, pinned in _gen with a go.mod of its own so that zoo does not depend on it.
//go:generate sh -c "cd ../.. && go tool -modfile=_gen/go.mod buf generate"
