package main

import (
	"context"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// commands calls f for every command of the program.
func commands(cmd *cobra.Command, f func(*cobra.Command)) {
	f(cmd)
	for _, c := range cmd.Commands() {
		commands(c, f)
	}
}

func TestExamplesInHelpAreCommandsThatExist(t *testing.T) {
	root := newRoot(context.Background())
	commands(root, func(c *cobra.Command) {
		for line := range strings.Lines(c.Example) {
			_, words, ok := strings.Cut("|"+strings.ReplaceAll(strings.TrimSpace(line), "| ", "|"), "zoo ")
			if !ok {
				continue // another program's
			}
			if words, _, _ = strings.Cut(words, "    "); strings.Contains(words, "&&") {
				continue
			}
			args := strings.Fields(strings.ReplaceAll(words, "'", ""))
			called, rest, err := newRoot(context.Background()).Find(args)
			if err != nil || !called.Runnable() {
				t.Errorf("help of %s: %q: %v", c.CommandPath(), line, err)
				continue
			}
			if err := called.ParseFlags(rest); err != nil {
				t.Errorf("help of %s: %q: %v", c.CommandPath(), line, err)
				continue
			}
			if called.Args != nil {
				if err := called.Args(called, called.Flags().Args()); err != nil {
					t.Errorf("help of %s: %q: %v", c.CommandPath(), line, err)
				}
			}
			if missing := missingFlags(called); len(missing) > 0 {
				t.Errorf("help of %s: %q lacks %v", c.CommandPath(), line, missing)
			}
		}
	})
}

func TestHelpShowsNoInsides(t *testing.T) {
	commands(newRoot(context.Background()), func(c *cobra.Command) {
		text := c.UsageString()
		for _, word := range []string{"stringToString", "stringArray", "float64Slice", "(default [])", "(default )", "[flags]"} {
			if strings.Contains(text, word) {
				t.Errorf("help of %s shows %q", c.CommandPath(), word)
			}
		}
	})
}

func TestWhatIsMissingIsNamed(t *testing.T) {
	home := t.TempDir()
	for _, c := range []struct {
		words []string
		args  []string
	}{
		{[]string{"an argument is missing", "zoo predict [MODEL] IMAGE"}, []string{"predict"}},
		{[]string{`zoo has no command "predcit"`, "did you mean predict?"}, []string{"help", "predcit"}},
		{[]string{`zoo plugin has no command "nwe"`}, []string{"help", "plugin", "nwe"}},
		{[]string{`zoo completion has no command "tcsh"`, "bash"}, []string{"completion", "tcsh"}},
		{[]string{`"b" is one word too many`, "zoo summary MODEL"}, []string{"summary", "a", "b"}},
		{[]string{"--as and --model", "zoo import FILE"}, []string{"import", "x.pth"}},
		{[]string{"--to", "zoo push"}, []string{"push", "x"}},
		{[]string{"- is given twice"}, []string{"predict", "-", "-"}},
		{[]string{"- is given twice"}, []string{"predict", "resnet20", "-", "x.png", "-"}},
		{[]string{"- is given twice"}, []string{"embed", "resnet20", "-", "-", "--out", "x.npy"}},
		{[]string{"--key is empty"}, []string{"registry", "sign", "registry.json", "--key", ""}},
	} {
		refused(t, home, exitUsage, c.words, c.args...)
	}
	if out := must(t, home, "--version"); !strings.HasPrefix(out, "zoo ") {
		t.Errorf("--version prints %q", out)
	}
}

func TestOneIsNoPlural(t *testing.T) {
	home := imported(t)
	refused(t, home, exitFailure, []string{": 1 line has no label"}, "eval", "mine", "--labels", write(t, "labels.csv", []byte("x.png\n")))
	refused(t, home, exitUsage, []string{"1 label for 2 classes"},
		"import", checkpoint(t, nil), "--as", "other", "--model", "resnet20", "--classes", "2", "--labels", write(t, "labels.txt", []byte("ant\n")))
}
