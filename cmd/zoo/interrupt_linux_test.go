package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/go-modelzoo/zoo/finetune"
)

// training starts a long training and waits until it has a checkpoint.
func training(t *testing.T, home, data string) (cmd *exec.Cmd, stderr func() string) {
	t.Helper()
	cmd, buffer := killable(t, home, "train", "resnet20", "--data", data, "--epochs", "100000", "--batch", "4", "--lr", "0.001", "--size", "32", "--out", "run")
	checkpoint := filepath.Join(home, "runs", "run", finetune.FileLast)
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if _, err := os.Stat(checkpoint); err == nil {
			return cmd, buffer.String
		}
		if time.Now().After(deadline) {
			t.Fatal("no checkpoint after 30 s")
		}
	}
}

// signalled sends a signal and returns how long the program takes to end.
func signalled(t *testing.T, cmd *exec.Cmd, sig os.Signal, limit time.Duration) time.Duration {
	t.Helper()
	begin := time.Now()
	if err := cmd.Process.Signal(sig); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait() // its state says all
	}()
	select {
	case <-ended:
	case <-time.After(limit):
		_ = cmd.Process.Kill() // it may just have ended
		<-ended
		t.Fatalf("it did not end within %v", limit)
	}
	return time.Since(begin)
}

func TestCtrlCSavesACheckpointFromWhichTheTrainingGoesOn(t *testing.T) {
	home, data := t.TempDir(), photos(t, 10)
	cmd, stderr := training(t, home, data)
	checkpoint := filepath.Join(home, "runs", "run", finetune.FileLast)
	if err := os.Remove(checkpoint); err != nil { // that of the epoch before, so that the one found is of the end
		t.Fatal(err)
	}
	below := descendants(cmd.Process.Pid)
	signalled(t, cmd, syscall.SIGINT, 20*time.Second)
	if cmd.ProcessState.ExitCode() != exitFailure || !strings.Contains(stderr(), "zoo: stopped") || !strings.Contains(stderr(), "--resume") {
		t.Errorf("%v: %s", cmd.ProcessState, stderr())
	}
	if _, err := os.Stat(checkpoint); err != nil {
		t.Error(err)
	}
	gone(t, below)
	o := zoo(t, home, nil, "train", "resnet20", "--data", data, "--epochs", "7", "--batch", "4", "--lr", "0.001", "--size", "32", "--out", "run", "--resume")
	if o.code == 0 || !strings.Contains(o.stderr, "epochs") { // another length is another run: it is told from the checkpoint
		t.Errorf("resumed with another configuration: exit %d, %s", o.code, o.stderr)
	}
	cmd, stderr = continued(t, home, data)
	time.Sleep(2 * time.Second)
	signalled(t, cmd, syscall.SIGINT, 20*time.Second)
	if !strings.Contains(stderr(), "continuing in epoch") {
		t.Errorf("it was not continued: %s", stderr())
	}
}

// continued continues the training.
func continued(t *testing.T, home, data string) (*exec.Cmd, func() string) {
	t.Helper()
	cmd, buffer := killable(t, home, "train", "resnet20", "--data", data, "--epochs", "100000", "--batch", "4", "--lr", "0.001", "--size", "32", "--out", "run", "--resume")
	return cmd, buffer.String
}

func TestSecondCtrlCEndsAtOnce(t *testing.T) {
	home, data := t.TempDir(), photos(t, 10)
	cmd, _ := training(t, home, data)
	below := descendants(cmd.Process.Pid)
	for _, pid := range below { // so that the first is waited for
		if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
	}
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	time.Sleep(500 * time.Millisecond)
	if stateOf(cmd.Process.Pid) == "Z" {
		t.Fatal("the first Ctrl-C did not wait for the checkpoint")
	}
	if d := signalled(t, cmd, syscall.SIGINT, 10*time.Second); d > time.Second {
		t.Errorf("ended after %v", d)
	}
	gone(t, below)
}

// gone checks that processes end within two seconds.
func gone(t *testing.T, pids []int) {
	t.Helper()
	for _, pid := range pids {
		for deadline := time.Now().Add(2 * time.Second); stateOf(pid) != "" && stateOf(pid) != "Z"; time.Sleep(5 * time.Millisecond) {
			if time.Now().After(deadline) {
				_ = syscall.Kill(pid, syscall.SIGKILL) // not to be in the way
				t.Fatalf("process %d is left: %s", pid, commandOf(pid))
			}
		}
	}
}

func TestCtrlCIsNamed(t *testing.T) {
	cmd, stderr := killable(t, t.TempDir(), "bench", "resnet20", "--duration", "1m")
	for deadline := time.Now().Add(20 * time.Second); len(descendants(cmd.Process.Pid)) == 0; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("no plugin after 20 s")
		}
	}
	signalled(t, cmd, syscall.SIGINT, 20*time.Second)
	if code := cmd.ProcessState.ExitCode(); code != exitFailure || stderr.String() != "zoo: interrupted\n" {
		t.Errorf("exit %d: %q", code, stderr.String())
	}
}

// zoo predict - in a terminal waits for someone to type.
func TestCtrlCWhileStandardInputWaits(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, "predict", "-")
	cmd.Env = append(os.Environ(), asZoo+"=1", "ZOO_HOME="+t.TempDir(), "ZOO_REGISTRY=")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if _, err := cmd.StdinPipe(); err != nil { // Wait closes it
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(20 * time.Second); len(descendants(cmd.Process.Pid)) == 0; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("no plugin after 20 s")
		}
	}
	time.Sleep(500 * time.Millisecond) // now it reads
	signalled(t, cmd, syscall.SIGINT, 10*time.Second)
	if code := cmd.ProcessState.ExitCode(); code != exitFailure || stderr.String() != "zoo: interrupted\n" {
		t.Errorf("exit %d: %q", code, stderr.String())
	}
}

// Opening a pipe waits for a writer, and no signal ends that.
func TestPipeInAFolderIsNotWaitedFor(t *testing.T) {
	home, data := imported(t), photos(t, 3)
	if err := syscall.Mkfifo(filepath.Join(data, "dark", "pipe.png"), 0o600); err != nil {
		t.Skip(err)
	}
	for _, args := range [][]string{{"predict", "mine", data}, {"finetune", "mine", "--data", data, "--freeze", "features", "--epochs", "1", "--out", "x"}} {
		cmd, stderr := killable(t, home, args...)
		ended := time.AfterFunc(20*time.Second, func() { _ = cmd.Process.Kill() }) // it may just have ended
		if err := cmd.Wait(); err != nil {
			t.Errorf("%v: %v: %s", args, err, stderr.String())
		}
		ended.Stop()
	}
}
