// Package conformance checks networks against PyTorch's results: the goldens in testdata/goldens and in the folders that ZOO_GOLDENS
// names, and public checkpoints where they are at hand.
//
// By default every forward golden runs at the precision "highest" and the small ones at all three; with -short only the small ones run. With
// ZOO_CONFORMANCE=all, as `make conformance` sets it, everything runs, training too, and -v prints a table.
//
// A batch of every network is compared with its images one by one besides.
package conformance

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"text/tabwriter"

	"github.com/go-modelzoo/zoo/engine"
	"github.com/go-modelzoo/zoo/plugins"
	"github.com/go-modelzoo/zoo/sdk"
)

// The test binary is also the plugins: the host starts it again for a family.
func TestMain(m *testing.M) {
	sdk.ServeEmbedded(plugins.All)
	os.Exit(m.Run())
}

// all reports whether everything was asked for.
func all() bool { return os.Getenv("ZOO_CONFORMANCE") == "all" }

// find returns the model of the given name and its family.
func find(t *testing.T, name string) (sdk.Family, sdk.Model) {
	t.Helper()
	for _, f := range plugins.All() {
		if m, ok := f.Model(name); ok {
			return f, m
		}
	}
	t.Fatalf("no family has %s", name)
	return sdk.Family{}, sdk.Model{}
}

// row is one line of the table.
type row struct {
	model, input, what string
	precision          engine.Precision
	error, tolerance   float64
	verdict            string
}

type table []row

// add records a result and fails the test if the error is above the tolerance.
func (rows *table) add(t *testing.T, r row) {
	t.Helper()
	r.verdict = "ok"
	if !(r.error <= r.tolerance) {
		r.verdict = "FAILED"
		t.Errorf("%s at %v: relative error %.2g is above %.2g", r.what, r.precision, r.error, r.tolerance)
	}
	*rows = append(*rows, r)
}

// skip records a case that says nothing at its precision.
func (rows *table) skip(r row) {
	r.verdict = "not meaningful"
	*rows = append(*rows, r)
}

// print writes the table where a person asked for it with -v.
func (rows *table) print() {
	if !testing.Verbose() {
		return
	}
	slices.SortStableFunc(*rows, func(a, b row) int { return strings.Compare(a.model, b.model) })
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "MODEL\tINPUT\tRESULT\tPRECISION\tERROR\tTOLERANCE\t")
	for _, r := range *rows {
		fmt.Fprintf(w, "%s\t%s\t%s\t%v\t%.2g\t%.2g\t%s\n", r.model, r.input, r.what, r.precision, r.error, r.tolerance, r.verdict)
	}
	w.Flush()
}
