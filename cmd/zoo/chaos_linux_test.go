package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	root "github.com/go-modelzoo/zoo"
	"github.com/go-modelzoo/zoo/classifier"
	"github.com/go-modelzoo/zoo/finetune"
	"github.com/go-modelzoo/zoo/host"
	"github.com/go-modelzoo/zoo/hub"
	"github.com/go-modelzoo/zoo/plugins/resnet"
)

// Faults that strike a process at a random moment.
const (
	faultKill   = "SIGKILL"
	faultStop   = "SIGSTOP"
	faultSegv   = "SIGSEGV"
	faultMemory = "no more memory"
	faultFlood  = "flood of logs"
)

var faults = []string{faultKill, faultStop, faultSegv, faultMemory, faultFlood}

// strike makes the fault happen to a process. It reports whether it did: the process may have ended.
func strike(pid int, fault string) bool {
	signals := map[string]syscall.Signal{faultKill: syscall.SIGKILL, faultStop: syscall.SIGSTOP, faultSegv: syscall.SIGSEGV}
	switch fault {
	case faultMemory:
		none := unix.Rlimit{Cur: 1 << 20, Max: 1 << 20}
		return unix.Prlimit(pid, unix.RLIMIT_AS, &none, nil) == nil && unix.Prlimit(pid, unix.RLIMIT_DATA, &none, nil) == nil
	case faultFlood: // through its own standard error
		f, err := os.OpenFile(fmt.Sprintf("/proc/%d/fd/2", pid), os.O_WRONLY|unix.O_NONBLOCK, 0)
		if err != nil {
			return false
		}
		defer f.Close() // of a pipe: nothing is lost
		line := strings.Repeat("all work and no play ", 3000) + "\n"
		end := time.Now().Add(time.Second)
		for range 100 {
			if err := f.SetWriteDeadline(end); err != nil {
				return false
			}
			if _, err := f.WriteString(line); err != nil {
				break // it ended, or its reader is slow
			}
		}
		return true
	}
	return syscall.Kill(pid, signals[fault]) == nil
}

// chaos is the state of a test under fault.
type chaos struct {
	*testing.T
	*rand.Rand
	home, data, sockets string
	server              *httptest.Server // of the hub inside the program, slowly
	patience            time.Duration    // of zoo with its plugins
	moments             int
	tally               map[string]int
}

func newChaos(t *testing.T, short, long int) *chaos {
	t.Helper()
	c := &chaos{T: t, home: imported(t), data: photos(t, 10), moments: short, patience: 3 * time.Second, tally: map[string]int{}}
	switch {
	case os.Getenv("ZOO_SOAK") != "":
		c.moments = long
	case testing.Short():
		c.moments = 3
	}
	if raceEnabled { // all is several times slower
		c.patience = 8 * time.Second
	}
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv("ZOO_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("ZOO_SEED=%d", seed)
	c.Rand = rand.New(rand.NewPCG(seed, 0))
	var err error
	if c.sockets, err = os.MkdirTemp("/tmp", "z"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(c.sockets); err != nil {
			t.Error(err)
		}
	})
	t.Setenv("XDG_RUNTIME_DIR", c.sockets)
	files := http.FileServerFS(root.EmbeddedHub())
	c.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { files.ServeHTTP(slowly{w}, r) }))
	t.Cleanup(c.server.Close)
	// Orphans come to this process, as they do to the first of a container.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0); err != nil {
			t.Error(err)
		}
	})
	return c
}

// slowly writes as a distant server does.
type slowly struct{ http.ResponseWriter }

// Write implements io.Writer.
func (s slowly) Write(p []byte) (n int, err error) {
	for part := range slices.Chunk(p, 32<<10) {
		time.Sleep(3 * time.Millisecond)
		k, err := s.ResponseWriter.Write(part)
		n += k
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// stateOf is the letter of a process's state, "" if there is none.
func stateOf(pid int) string {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return ""
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	return rest[:min(len(rest), 1)]
}

func commandOf(pid int) string {
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil {
		return ""
	}
	return string(bytes.ReplaceAll(line, []byte{0}, []byte{' '}))
}

// pluginsBelow lists the processes below pid that have begun to run a plugin.
func pluginsBelow(pid int) []int {
	return slices.DeleteFunc(descendants(pid), func(p int) bool { return !strings.HasPrefix(commandOf(p), "zoo-") })
}

// alone checks that no process is left below this one soon, and takes leave of adopted dead.
func (c *chaos) alone(what string) {
	c.Helper()
	deadline := time.Now().Add(2 * time.Second)
	for {
		var left []string
		for _, pid := range descendants(os.Getpid()) {
			switch stateOf(pid) {
			case "":
			case "Z":
				_, _ = unix.Wait4(pid, nil, unix.WNOHANG, nil) // not ours, or gone
			default:
				left = append(left, fmt.Sprintf("%d %s %s", pid, stateOf(pid), commandOf(pid)))
			}
		}
		if len(left) == 0 {
			return
		}
		if time.Now().After(deadline) {
			c.Fatalf("%s: processes are left:\n%s", what, strings.Join(left, "\n"))
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// sound checks every byte of a home's store.
func (c *chaos) sound(what, home string) {
	c.Helper()
	client, err := classifier.Open(classifier.Config{Hub: hub.Config{Home: home}})
	if err != nil {
		c.Fatalf("%s: %v", what, err)
	}
	found, err := client.Hub.Verify(c.Context(), false)
	if err := errors.Join(err, client.Close()); err != nil {
		c.Fatalf("%s: %v", what, err)
	}
	for _, f := range found {
		if !f.Warning {
			c.Errorf("%s: the store is damaged: %s: %v", what, f.Name, f.Err)
		}
	}
}

// noFolders checks that no socket is left.
func (c *chaos) noFolders(what string) {
	c.Helper()
	entries, err := os.ReadDir(c.sockets)
	if err != nil || len(entries) > 0 {
		c.Errorf("%s: left behind: %v %v", what, entries, err)
	}
}

// job is a command that is struck.
type job struct {
	name    string
	args    []string
	limit   time.Duration // of a run in which everything that may be waited for is
	home    func() string
	check   func(home string, stdout []byte) error
	typical time.Duration // of a run that nothing strikes
}

// start starts a command and returns it with what it writes.
func (c *chaos) start(home string, args ...string) (cmd *exec.Cmd, stdout, stderr *bytes.Buffer) {
	c.Helper()
	self, err := os.Executable()
	if err != nil {
		c.Fatal(err)
	}
	cmd = exec.Command(self, args...)
	cmd.Env = append(os.Environ(), asZoo+"=1", "ZOO_HOME="+home, "ZOO_REGISTRY="+c.server.URL, "NO_COLOR=1")
	stdout, stderr = new(bytes.Buffer), new(bytes.Buffer)
	cmd.Stdout, cmd.Stderr = stdout, stderr
	cmd.WaitDelay = time.Second // should a plugin outlive it
	if err := cmd.Start(); err != nil {
		c.Fatal(err)
	}
	return cmd, stdout, stderr
}

// finish waits for a command. If it hangs it is told to say where.
func (c *chaos) finish(what string, cmd *exec.Cmd, stderr *bytes.Buffer, limit time.Duration) {
	c.Helper()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait() // its state says all
	}()
	select {
	case <-ended:
		return
	case <-time.After(limit):
	}
	var states []string
	for _, pid := range append(descendants(cmd.Process.Pid), cmd.Process.Pid) {
		states = append(states, fmt.Sprintf("%d %s %s", pid, stateOf(pid), commandOf(pid)))
	}
	_ = cmd.Process.Signal(syscall.SIGQUIT) // it may just have ended
	select {
	case <-ended:
	case <-time.After(5 * time.Second):
		_ = cmd.Process.Kill()
		<-ended
	}
	c.Fatalf("%s hangs: after %v there are\n%s\n%s", what, limit, strings.Join(states, "\n"), stderr)
}

// undisturbed runs a job that nothing strikes, which must succeed.
func (c *chaos) undisturbed(what, home string, j *job, more ...string) time.Duration {
	c.Helper()
	begin := time.Now()
	cmd, stdout, stderr := c.start(home, append(slices.Clone(j.args), more...)...)
	c.finish(what, cmd, stderr, j.limit+20*time.Second)
	if code := cmd.ProcessState.ExitCode(); code != 0 {
		c.Fatalf("%s, undisturbed: exit %d: %s", what, code, stderr)
	}
	if err := j.check(home, stdout.Bytes()); err != nil {
		c.Fatalf("%s, undisturbed: %v", what, err)
	}
	return time.Since(begin)
}

// same returns a check that standard output is always what it was the first time.
func same() func(string, []byte) error {
	var first []byte
	return func(_ string, stdout []byte) error {
		if first == nil {
			first = slices.Clone(stdout)
		}
		if !bytes.Equal(stdout, first) {
			return fmt.Errorf("it printed %s, undisturbed %s", stdout, first)
		}
		return nil
	}
}

// jobs are the commands that are struck, each run once undisturbed.
func (c *chaos) jobs() []*job {
	c.Helper()
	shared := func() string { return c.home }
	// A start, a load and a call, twice; then the closing.
	answer := 2*3*c.patience + 2*c.patience
	var trained []byte
	list := []*job{
		{name: "predict", args: []string{"predict", "mine", c.data, "-o", "json"}, home: shared, limit: answer, check: same()},
		{name: "eval", args: []string{"eval", "mine", "--labels", c.labels(), "-o", "json"}, home: shared, limit: answer, check: same()},
		{
			name: "finetune", home: c.TempDir, limit: 2*answer + 30*time.Second, // and the training, twice
			args: []string{
				"finetune", checkpointFolder(c.T), "--data", c.data, "--epochs", "5", "--batch", "4", "--lr", "0.02",
				"--checkpoint-seconds", "0.000001", "--threads", "2", "--out", "result",
			},
			check: func(home string, _ []byte) error {
				got, err := os.ReadFile(filepath.Join(home, "runs", "result", finetune.FileModel))
				if trained == nil {
					trained = got
				}
				if err == nil && !bytes.Equal(got, trained) {
					err = errors.New("the weights are others than those of an undisturbed run")
				}
				return err
			},
		},
		{name: "pull", args: []string{"pull", classifier.EmbeddedModel}, home: c.TempDir, limit: 30 * time.Second, check: func(home string, _ []byte) error {
			blobs, err := filepath.Glob(filepath.Join(home, "store", "blobs", "sha256", "*"))
			if err == nil && len(blobs) < 2 {
				err = fmt.Errorf("the store has %d blobs", len(blobs))
			}
			return err
		}},
	}
	for _, j := range list {
		j.typical = c.undisturbed(j.name, j.home(), j)
	}
	return list
}

// labels writes a list of the photographs with some classes.
func (c *chaos) labels() string {
	c.Helper()
	var b strings.Builder
	err := filepath.WalkDir(c.data, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			fmt.Fprintf(&b, "%s,%d\n", path, len(b.String())%10)
		}
		return err
	})
	if err != nil {
		c.Fatal(err)
	}
	return write(c.T, "labels.csv", []byte(b.String()))
}

// checkpointFolder is a folder with the random resnet20, which a home need not have.
func checkpointFolder(t *testing.T) string {
	t.Helper()
	home, out := imported(t), filepath.Join(t.TempDir(), "base")+string(filepath.Separator)
	must(t, home, "finetune", "mine", "--data", photos(t, 3), "--epochs", "1", "--lr", "0.01", "--out", out)
	return out
}

// telling are the causes that an error line may name.
var telling = regexp.MustCompile(`crashed while|did not answer within|did not start within|ended while starting|needed more memory|needed more than|was ended while|broke the connection|failed while|did not start:`)

// TestChaosOnTheCommandLineSoak strikes zoo and its plugins while commands run: each time nothing hangs, no process, socket or lock is left, the
// store is sound, the answer right or the error one line that names the family and what happened. Eight moments; 250 under soak. ZOO_SEED repeats
// the dice of a run, though not the machine's.
func TestChaosOnTheCommandLineSoak(t *testing.T) {
	c := newChaos(t, 8, 250)
	jobs := c.jobs()
	for done, tried := 0, 0; done < c.moments; tried++ {
		if tried > 10*c.moments {
			t.Fatalf("only %d of %d moments came about", done, c.moments)
		}
		if c.moment(done, jobs[c.IntN(len(jobs))]) {
			done++
		}
	}
	if entries, err := os.ReadDir(c.sockets); err != nil || len(entries) > 0 { // killed programs left some: they go with the next start after a while
		time.Sleep(6 * time.Second)
		c.undisturbed("the last", c.home, jobs[0])
	}
	c.noFolders("in the end")
	t.Logf("%d moments: %v", c.moments, c.tally)
}

// moment runs a job and strikes it. It reports whether it came to that.
func (c *chaos) moment(n int, j *job) bool {
	c.Helper()
	home, fault := j.home(), faults[c.IntN(len(faults))]
	program := j.name == "pull" || c.IntN(4) == 0
	if program && fault == faultFlood { // its standard error is this test's
		fault = faultKill
	}
	cmd, stdout, stderr := c.start(home, append(slices.Clone(j.args), "--plugin-timeout", c.patience.String())...)
	time.Sleep(time.Duration(c.Int64N(int64(j.typical))))
	victim := cmd.Process.Pid
	if !program {
		victim = 0
		if pids := pluginsBelow(cmd.Process.Pid); len(pids) > 0 {
			victim = pids[c.IntN(len(pids))]
		}
	}
	struck := victim != 0 && strike(victim, fault)
	what := fmt.Sprintf("moment %d: %s, plugin, %s", n, j.name, fault)
	if program {
		what = fmt.Sprintf("moment %d: %s, zoo itself, %s", n, j.name, fault)
	}
	if program && fault == faultStop {
		time.Sleep(50 * time.Millisecond)
		end := []syscall.Signal{syscall.SIGKILL, syscall.SIGCONT}[c.IntN(2)]
		if err := cmd.Process.Signal(end); err != nil && !errors.Is(err, os.ErrProcessDone) {
			c.Fatal(err)
		}
	}
	c.finish(what, cmd, stderr, j.limit)
	c.alone(what)
	c.sound(what, home)
	code := cmd.ProcessState.ExitCode()
	if code == 0 {
		if err := j.check(home, stdout.Bytes()); err != nil {
			c.Errorf("%s: %v", what, err)
		}
	} else if !program {
		lines := strings.Split(strings.TrimSpace(stderr.String()), "\n")
		last := lines[len(lines)-1]
		if !strings.HasPrefix(last, "zoo: ") || len(last) > 1300 || !strings.Contains(last, resnet.Family().Name) || !telling.MatchString(last) || j.name != "finetune" && len(lines) > 1 {
			c.Errorf("%s: exit %d with\n%s", what, code, stderr)
		}
	}
	if program { // what it left is not in the way
		more := []string{}
		if j.name == "finetune" && code != 0 {
			more = append(more, "--resume")
		}
		if j.name != "finetune" || code != 0 {
			c.undisturbed(what+", again", home, j, more...)
		}
	} else if j.name == "finetune" && code != 0 {
		c.undisturbed(what+", resumed", home, j, "--resume")
	}
	if !struck {
		return false
	}
	outcome := "right"
	switch {
	case code != 0 && program:
		outcome = "zoo ended"
	case code != 0:
		outcome = "error"
	}
	c.tally[fault+": "+outcome]++
	return true
}

// TestChaosThroughTheAPISoak strikes plugins while a program predicts, evaluates, fine-tunes and pulls with one client. Twelve moments; 250 under soak.
func TestChaosThroughTheAPISoak(t *testing.T) {
	c := newChaos(t, 12, 250)
	segments := sharedSegments(t)
	client, err := classifier.Open(classifier.Config{
		Hub: hub.Config{Home: c.home, Sources: []string{c.server.URL}}, StartTimeout: c.patience, CallTimeout: c.patience, Threads: 2,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	over := make(chan struct{})
	var outcomes sync.Map
	worker := func(name string, limit time.Duration, f func(n int) error) func() {
		return func() {
			for n := 0; ; n++ {
				select {
				case <-over:
					return
				case <-ctx.Done():
					return
				default:
				}
				alarm := time.AfterFunc(limit, func() {
					stacks := make([]byte, 1<<20)
					c.Errorf("%s takes longer than %v\n%s", name, limit, stacks[:runtime.Stack(stacks, true)])
					cancel()
				})
				err := f(n)
				alarm.Stop()
				outcome := name + ": right"
				if err != nil && ctx.Err() == nil {
					outcome = name + ": " + c.kindOf(name, err)
				}
				count, _ := outcomes.LoadOrStore(outcome, new(atomic.Int64))
				count.(*atomic.Int64).Add(1)
			}
		}
	}
	evaluate := c.evaluation(client)
	train, trained := c.training(client)
	answer := 2*3*c.patience + 2*c.patience
	var all sync.WaitGroup
	for _, f := range []func(){
		worker("eval", answer, func(int) error { return evaluate(ctx) }),
		worker("predict", answer, func(int) error { return evaluate(ctx) }),
		worker("finetune", 2*answer+30*time.Second, func(n int) error { return train(ctx, n) }),
		worker("pull", 30*time.Second, func(int) error { return c.pull(ctx) }),
	} {
		all.Go(f)
	}
	for hits, limit := 0, time.Now().Add(time.Duration(c.moments)*5*time.Second); hits < c.moments && ctx.Err() == nil; {
		time.Sleep(time.Duration(c.IntN(400)) * time.Millisecond)
		if time.Now().After(limit) {
			t.Errorf("only %d of %d moments came about", hits, c.moments)
			break
		}
		if pids := pluginsBelow(os.Getpid()); len(pids) > 0 && strike(pids[c.IntN(len(pids))], faults[c.IntN(len(faults))]) {
			hits++
		}
	}
	close(over)
	all.Wait()
	trained()
	if err := client.Close(); err != nil {
		t.Error(err)
	}
	c.alone("in the end")
	c.noFolders("in the end")
	c.sound("in the end", c.home)
	if after := sharedSegments(t); after > segments {
		t.Errorf("%d segments of shared memory are mapped, before %d", after, segments)
	}
	tally := map[string]int64{}
	outcomes.Range(func(k, v any) bool { tally[k.(string)] = v.(*atomic.Int64).Load(); return true })
	for _, k := range slices.Sorted(maps.Keys(tally)) {
		t.Logf("%s: %d", k, tally[k])
	}
}

// kindOf names the kind of an error, and checks that it is one line that names the family.
func (c *chaos) kindOf(what string, err error) string {
	c.Helper()
	text := err.Error()
	if strings.Contains(text, "\n") || len(text) > 1300 || !strings.Contains(text, resnet.Family().Name) || !telling.MatchString(text) {
		c.Errorf("%s: the error is not one line that names the family and the cause: %q", what, text)
	}
	for _, kind := range []error{host.ErrCrashed, host.ErrTimeout, host.ErrMemory, host.ErrStart, host.ErrFailed} {
		if errors.Is(err, kind) {
			return kind.Error()
		}
	}
	c.Errorf("%s: error of no kind: %v", what, err)
	return "?"
}

// evaluation returns what opens the model, runs the photographs and compares the outcome with the first.
func (c *chaos) evaluation(client *classifier.Client) func(context.Context) error {
	c.Helper()
	var items []classifier.Item
	paths, err := filepath.Glob(filepath.Join(c.data, "*", "*.png"))
	if err != nil || len(paths) == 0 {
		c.Fatal(paths, err)
	}
	for i, p := range paths {
		items = append(items, classifier.Item{Name: p, Label: i % 10})
	}
	run := func(ctx context.Context) (classifier.Evaluation, error) {
		m, err := client.Load(ctx, "mine", classifier.LoadOptions{})
		if err != nil {
			return classifier.Evaluation{}, err
		}
		e, err := m.Evaluate(ctx, slices.Values(items), classifier.EvalOptions{})
		if closeErr := m.Close(); err == nil {
			err = closeErr // which may find that the plugin hangs
		}
		return e, err
	}
	want, err := run(c.Context())
	if err != nil {
		c.Fatal(err)
	}
	return func(ctx context.Context) error {
		got, err := run(ctx)
		if err == nil && (got.N != want.N || got.Top1 != want.Top1 || got.Top5 != want.Top5) {
			c.Errorf("evaluation %+v, undisturbed %+v", got, want)
		}
		return err
	}
}

// training returns what fine-tunes, or continues the run that was interrupted, and compares the result with an undisturbed one; and what ends the
// last run undisturbed.
func (c *chaos) training(client *classifier.Client) (attempt func(context.Context, int) error, last func()) {
	c.Helper()
	config := finetune.Defaults()
	config.Data, config.Epochs, config.BatchSize, config.LR, config.CheckpointSeconds = c.data, 4, 4, 0.02, 0.000001
	dir := c.TempDir()
	run := func(ctx context.Context, out string, resume bool) error {
		ck, err := client.Find(ctx, "mine")
		if err != nil {
			return err
		}
		_, err = client.Finetune(ctx, ck, config, classifier.FinetuneOptions{Out: out, Resume: resume})
		return err
	}
	model := func(out string) []byte {
		b, err := os.ReadFile(filepath.Join(out, finetune.FileModel))
		if err != nil {
			c.Error(err)
		}
		return b
	}
	whole := filepath.Join(dir, "whole")
	if err := run(c.Context(), whole, false); err != nil {
		c.Fatal(err)
	}
	want, count, resume := model(whole), 0, false
	attempt = func(ctx context.Context, _ int) error {
		out := filepath.Join(dir, fmt.Sprint(count))
		err := run(ctx, out, resume)
		resume = err != nil
		if err == nil {
			count++
			if !bytes.Equal(model(out), want) {
				c.Errorf("training %s ended with other weights than an undisturbed one", out)
			}
		}
		return err
	}
	last = func() {
		for range 3 { // the last moment may still be at work
			if err := attempt(c.Context(), 0); err == nil {
				return
			} else if c.kindOf("finetune", err); c.Failed() {
				return
			}
		}
		c.Error("training still fails though nothing is struck any more")
	}
	return attempt, last
}

// pull fetches a model into a home of its own, sometimes giving up, and checks what is there.
func (c *chaos) pull(ctx context.Context) error {
	home, err := os.MkdirTemp(c.home, "pull")
	if err != nil {
		return err
	}
	defer func() {
		if err := os.RemoveAll(home); err != nil {
			c.Error(err)
		}
	}()
	client, err := classifier.Open(classifier.Config{Hub: hub.Config{Home: home, Sources: []string{c.server.URL}}})
	if err != nil {
		return err
	}
	limited, cancel := context.WithTimeout(ctx, time.Duration(rand.IntN(400))*time.Millisecond)
	defer cancel()
	_, err = client.Pull(limited, classifier.EmbeddedModel)
	if err != nil && !errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		c.Errorf("pull: %v", err)
	}
	if err := client.Close(); err != nil {
		c.Error(err)
	}
	if ctx.Err() == nil {
		c.sound("pull", home)
	}
	return nil
}

// sharedSegments counts the mappings of memory that plugins share.
func sharedSegments(t *testing.T) int {
	t.Helper()
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Count(maps, []byte("memfd:zoo-tensors"))
}
