package main

import (
	"fmt"
	"io"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// release is the version of a build that no module system names.
const release = "0.1.0-dev"

// version returns the module's version where zoo was installed by `go install module@version`, else the release.
func version() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" && info.Main.Version != "(devel)" {
		return info.Main.Version
	}
	return release
}

func newVersion(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			v := struct {
				Version string `json:"version"`
			}{version()}
			return a.Print(v, func(w io.Writer) error {
				_, err := fmt.Fprintln(w, "zoo", v.Version)
				return err
			})
		},
	}
}
