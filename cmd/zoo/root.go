package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/go-modelzoo/zoo/classifier"
	"github.com/go-modelzoo/zoo/engine"
	"github.com/go-modelzoo/zoo/host"
	"github.com/go-modelzoo/zoo/hub"
	"github.com/go-modelzoo/zoo/hub/lock"
	"github.com/go-modelzoo/zoo/internal/ui"
)

// app is what the commands share: the flags and, once a command asks for it, the open client.
type app struct {
	ui.Console
	flags  flags
	client *classifier.Client
}

// flags are those that every command takes.
type flags struct {
	pluginDirs       []string
	precision        string
	device           string
	threads          int
	seed             uint64
	offline          bool
	trustUnpublished bool
	plainHTTP        bool
	verbose          bool
	pluginMemory     string
	pluginTimeout    time.Duration
	requireLicenses  []string
	rateLimit        string
	isolation        string
}

func newRoot(ctx context.Context) *cobra.Command {
	a := &app{Console: ui.Console{Out: os.Stdout, Err: os.Stderr, Format: ui.Text}}
	root := &cobra.Command{
		Use:   "zoo",
		Short: "Pretrained image classifiers: pull, verify, run, fine-tune, publish",
		Long: `zoo pulls pretrained image classifiers, verifies every byte, runs them, fine-tunes them on your own images and publishes the
result on a registry. Each architecture family runs as a plugin process of its own.

MODEL is a name that zoo list shows, with the weights' tag after a colon if the default ones are not meant; a name that was given to import or
finetune; a folder (written with a separator, as in ./my-photos); or oci://HOST/PATH/NAME:TAG. Weights that are not in the store are pulled.

Exit status: 0 done, 1 failed, 2 wrong usage. Environment: ZOO_HOME is where things are kept (zoo info --system shows it), ZOO_REGISTRY lists the
sources of models to ask in place of the configured ones, ZOO_CA_FILE names more certificate authorities, NO_COLOR is honoured.`,
		Example: `  zoo predict cat.jpg                                    classify with the model that is inside the program
  zoo predict resnet50 cat.jpg                           pull a model, and classify with it
  zoo summary resnet50                                   look at a network
  zoo finetune resnet50 --data photos --out my-photos    fit it to photos/CLASS/*.jpg
  zoo predict my-photos other.jpg`,
		Version:       version(),
		SilenceErrors: true, SilenceUsage: true,
		PersistentPostRunE: func(*cobra.Command, []string) error { return a.close() },
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return &usageError{fmt.Errorf("%w; see `%s --help`%s", err, cmd.CommandPath(), likeFlag(cmd, err))}
	})
	a.addFlags(root.PersistentFlags())
	root.AddGroup(
		&cobra.Group{ID: "look", Title: "Look around:"},
		&cobra.Group{ID: "use", Title: "Use a model:"},
		&cobra.Group{ID: "train", Title: "Train:"},
		&cobra.Group{ID: "hub", Title: "Store and registries:"},
		&cobra.Group{ID: "plugins", Title: "Plugins and system:"},
	)
	for group, commands := range commandGroups {
		for _, c := range commands {
			cmd := c(a)
			cmd.GroupID = group
			root.AddCommand(cmd)
		}
	}
	root.SetVersionTemplate("zoo {{.Version}}\n")
	root.InitDefaultCompletionCmd() // cobra's own commands, so that their words are checked too
	root.InitDefaultHelpCmd()
	checkArgs(root)
	checkInts(root)
	tidyHelp(root)
	a.complete(root)
	return root
}

// addFlags adds those that every command takes.
func (a *app) addFlags(f *pflag.FlagSet) {
	f.VarP(&a.Format, "output-format", "o", "print text or json")
	f.StringSliceVar(&a.flags.pluginDirs, "plugin-dir", nil, "search this folder for plugins first (repeatable)")
	f.StringVar(&a.flags.precision, "precision", "", "highest, high or medium (default: high where the CPU has AMX, else highest)")
	f.StringVar(&a.flags.device, "device", "cpu", "cpu, or cuda where the family's plugin offers it (zoo's own do not)")
	f.IntVar(&a.flags.threads, "threads", 0, "threads to compute with (default: all cores granted)")
	f.Uint64Var(&a.flags.seed, "seed", 0, "seed of everything random")
	f.BoolVar(&a.flags.offline, "offline", false, "never use the network")
	f.BoolVar(&a.flags.plainHTTP, "plain-http", false, "allow registries without TLS beyond this machine")
	f.BoolVarP(&a.flags.verbose, "verbose", "v", false, "log what plugins do (ZOO_LOG=trace|debug|info|warn|error sets the level)")
	f.StringVar(&a.flags.pluginMemory, "plugin-memory", "", "memory ceiling of a plugin process, such as 4GB")
	f.DurationVar(&a.flags.pluginTimeout, "plugin-timeout", 0, "how long a plugin may take to start, to answer, or in a training to show that it lives (default: 20s, 5m and 20s)")
	f.StringSliceVar(&a.flags.requireLicenses, "require-license", nil, "refuse weights under any other licence than these SPDX identifiers")
	f.BoolVar(&a.flags.trustUnpublished, "trust-unpublished", false, "accept weights of which no digest is published, and pin them")
	f.StringVar(&a.flags.rateLimit, "rate-limit", "", "download at most this much a second, such as 20MB")
	f.StringVar(&a.flags.isolation, "isolation", "default", "confine plugins: default, required or off")
	f.BoolVarP(&a.Quiet, "quiet", "q", false, "no progress bars")
}

// commandGroups lists every command, a file each.
var commandGroups = map[string][]func(*app) *cobra.Command{
	"look":    {newList, newSearch, newInfo, newSummary, newLicenses, newCompare},
	"use":     {newPredict, newExplain, newRun, newEval, newEmbed, newBench, newExport, newImport},
	"train":   {newFinetune, newTrain},
	"hub":     {newPull, newPush, newMirror, newVerify, newCache, newRegistry},
	"plugins": {newPlugin, newDoctor, newVersion},
}

// tidyHelp leaves empty lists out of the defaults that help shows, and what says nothing out of usage lines.
func tidyHelp(cmd *cobra.Command) {
	cmd.DisableFlagsInUseLine = true
	cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
		if t := f.Value.Type(); t == "stringToString" || t == "float64Slice" { // pflag shows "[]" of these
			f.DefValue = ""
		}
	})
	for _, s := range cmd.Commands() {
		tidyHelp(s)
	}
}

// fitting is a flag of an int. pflag takes 64 bits and cuts off those that an int has not on 32-bit systems, so that 4294967301 would be 5.
type fitting struct{ pflag.Value }

// Set implements pflag.Value.
func (f fitting) Set(text string) error {
	if _, err := strconv.ParseInt(text, 0, strconv.IntSize); err != nil {
		return err
	}
	return f.Value.Set(text)
}

// checkInts makes all flags of ints fitting.
func checkInts(cmd *cobra.Command) {
	cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
		if f.Value.Type() == "int" {
			f.Value = fitting{f.Value}
		}
	})
	for _, s := range cmd.Commands() {
		checkInts(s)
	}
}

// checkArgs turns wrong arguments and unknown commands into usage errors.
func checkArgs(cmd *cobra.Command) {
	if check := cmd.Args; check != nil {
		cmd.Args = func(c *cobra.Command, args []string) error {
			err := check(c, args)
			if err == nil {
				return nil
			}
			if strings.Contains(err.Error(), "arg(s)") { // cobra's words
				err = errors.New("an argument is missing")
				if len(args) > 0 && check(c, args[:len(args)-1]) == nil {
					err = fmt.Errorf("%q is one word too many", args[len(args)-1])
				}
			}
			return &usageError{fmt.Errorf("%w; usage: %s", err, usageLine(c))}
		}
	}
	if cmd.HasSubCommands() && cmd.RunE == nil {
		cmd.Args = cobra.ArbitraryArgs
		cmd.RunE = func(c *cobra.Command, args []string) error {
			if len(args) == 0 {
				return c.Help()
			}
			return noCommand(c, args[0])
		}
	}
	if cmd.Name() == "help" && !cmd.Parent().HasParent() {
		cmd.Args = func(c *cobra.Command, args []string) error {
			if about, rest, err := c.Root().Find(args); err == nil && len(rest) > 0 {
				return noCommand(about, rest[0])
			}
			return nil
		}
	}
	for _, s := range cmd.Commands() {
		checkArgs(s)
	}
}

// noCommand is the error for a word that is no command below c.
func noCommand(c *cobra.Command, word string) error {
	var names []string
	for _, s := range c.Commands() {
		names = append(names, s.Name())
	}
	return usagef("%s has no command %q; see `%s --help`%s", c.CommandPath(), word, c.CommandPath(), ui.DidYouMean(word, names))
}

// usageLine is how a command is written.
func usageLine(c *cobra.Command) string { return strings.TrimSuffix(c.UseLine(), " [flags]") }

// missingFlags lists the flags that a command cannot do without and that were not given.
func missingFlags(c *cobra.Command) (names []string) {
	c.Flags().VisitAll(func(f *pflag.Flag) {
		if _, required := f.Annotations[cobra.BashCompOneRequiredFlag]; required && !f.Changed {
			names = append(names, "--"+f.Name)
		}
	})
	return names
}

// likeFlag suggests flags for one that is unknown.
func likeFlag(cmd *cobra.Command, err error) string {
	var unknown *pflag.NotExistError
	if !errors.As(err, &unknown) || unknown.GetSpecifiedShortnames() != "" {
		return ""
	}
	var names []string
	cmd.Flags().VisitAll(func(f *pflag.Flag) { names = append(names, f.Name) })
	return strings.NewReplacer(" mean ", " mean --", " or ", " or --").Replace(ui.DidYouMean(unknown.GetSpecifiedName(), names))
}

// open returns the client, opening it at the first call.
func (a *app) open() (*classifier.Client, error) {
	if a.client != nil {
		return a.client, nil
	}
	config, err := a.config()
	if err != nil {
		return nil, err
	}
	a.client, err = classifier.Open(config)
	return a.client, err
}

func (a *app) close() error {
	if a.client == nil {
		return nil
	}
	return a.client.Close()
}

// config turns flags and environment into the client's configuration.
func (a *app) config() (classifier.Config, error) {
	fail := func(err error) (classifier.Config, error) { return classifier.Config{}, &usageError{err} }
	precision, err := engine.ParsePrecision(a.flags.precision)
	if err != nil {
		return fail(err)
	}
	if !slices.Contains([]string{"cpu", "cuda"}, a.flags.device) {
		return fail(fmt.Errorf("device %q is unknown: use cpu or cuda", a.flags.device))
	}
	if a.flags.threads < 0 {
		return fail(fmt.Errorf("threads %d is below 0", a.flags.threads))
	}
	if a.flags.pluginTimeout < 0 {
		return fail(fmt.Errorf("--plugin-timeout %v is below 0", a.flags.pluginTimeout))
	}
	memory, err := ui.ParseBytes(a.flags.pluginMemory)
	if err != nil {
		return fail(fmt.Errorf("--plugin-memory: %w", err))
	}
	rate, err := ui.ParseBytes(a.flags.rateLimit)
	if err != nil {
		return fail(fmt.Errorf("--rate-limit: %w", err))
	}
	isolation, ok := map[string]host.Isolation{"default": host.IsolateDefault, "required": host.IsolateRequired, "off": host.IsolateOff}[a.flags.isolation]
	if !ok {
		return fail(fmt.Errorf("isolation %q is unknown: use default, required or off", a.flags.isolation))
	}
	home, err := hub.DefaultHome()
	if err != nil {
		return classifier.Config{}, err
	}
	for _, dir := range a.flags.pluginDirs {
		if info, err := os.Stat(dir); err != nil {
			return classifier.Config{}, fmt.Errorf("--plugin-dir: %w", err)
		} else if !info.IsDir() {
			return classifier.Config{}, fmt.Errorf("--plugin-dir: %s is not a folder: name the one that holds the plugin", dir)
		}
	}
	h, err := hub.LoadConfig(home)
	if err != nil {
		return classifier.Config{}, err
	}
	h.Offline = h.Offline || a.flags.offline
	h.PlainHTTP = h.PlainHTTP || a.flags.plainHTTP
	h.TrustUnpublished = a.flags.trustUnpublished
	h.RequireLicenses = append(h.RequireLicenses, a.flags.requireLicenses...)
	if rate > 0 {
		h.RateLimit = rate
	}
	view := &hubView{app: a}
	h.Warn, h.Progress = view.warn, view.progress
	if file, ok := lock.Find("."); ok {
		h.LockFile = file
	}
	return classifier.Config{
		Hub: h, PluginDirs: a.flags.pluginDirs, Precision: precision, Threads: a.flags.threads, Device: a.flags.device, Seed: a.flags.seed,
		PluginMemory: memory, StartTimeout: a.flags.pluginTimeout, CallTimeout: a.flags.pluginTimeout, Isolation: isolation, Logger: a.logger(),
	}, nil
}

// logger writes the plugins' logs to standard error, or nothing.
func (a *app) logger() hclog.Logger {
	level := hclog.LevelFromString(os.Getenv("ZOO_LOG"))
	if level == hclog.NoLevel {
		if !a.flags.verbose {
			return hclog.NewNullLogger()
		}
		level = hclog.Debug
	}
	return hclog.New(&hclog.LoggerOptions{Name: "zoo", Level: level, Output: a.Err})
}
