//go:build linux

package pluginrpc

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"testing"
	"time"
)

// testLine returns both ends of a line. They are closed with the test.
func testLine(t testing.TB) (host, plugin *Line) {
	t.Helper()
	host, f, err := NewLine()
	if err != nil {
		t.Fatal(err)
	}
	if plugin, err = newLine(f); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for range 2 { // the second time does nothing
			if err := errors.Join(host.Close(), plugin.Close()); err != nil {
				t.Error(err)
			}
		}
	})
	return host, plugin
}

// attend has a plugin attend to the line until the test ends, which it must notice.
func attend(t testing.TB, plugin *Line, answer func([]byte) (uint32, []byte)) {
	t.Helper()
	ended := make(chan error, 1)
	go func() { ended <- plugin.Attend(answer) }()
	t.Cleanup(func() {
		if err := plugin.Close(); err != nil {
			t.Error(err)
		}
		select {
		case err := <-ended:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(5 * time.Second):
			t.Error("the plugin still attends to a line that is closed")
		}
	})
}

func echo(request []byte) (uint32, []byte) { return 0, request }

func TestLineAnswersEachCall(t *testing.T) {
	host, plugin := testLine(t)
	attend(t, plugin, func(request []byte) (uint32, []byte) {
		if len(request)%3 == 0 {
			time.Sleep(200 * time.Microsecond) // long enough for the host to wait
		}
		return uint32(len(request)), bytes.ToUpper(request)
	})
	for i := range 2000 {
		if i%7 == 0 {
			time.Sleep(50 * time.Microsecond) // and the plugin
		}
		want := bytes.Repeat([]byte{byte('a' + i%26)}, i%100)
		if i == 1000 {
			want = bytes.Repeat([]byte("x"), MaxLineMessage)
		}
		if err := host.Ask(want); err != nil {
			t.Fatal(err)
		}
		code, got, err := host.Answer(t.Context())
		if err != nil || int(code) != len(want) || !bytes.Equal(got, bytes.ToUpper(want)) {
			t.Fatalf("call %d: status %d, %.20q, %v", i, code, got, err)
		}
	}
	if err := host.Ask(make([]byte, MaxLineMessage+1)); err == nil {
		t.Error("a request that does not fit was taken")
	}
}

func TestLineCutsOffALongAnswer(t *testing.T) {
	host, plugin := testLine(t)
	attend(t, plugin, func([]byte) (uint32, []byte) { return 7, make([]byte, MaxLineMessage+1) })
	if err := host.Ask(nil); err != nil {
		t.Fatal(err)
	}
	if code, got, err := host.Answer(t.Context()); err != nil || code != 7 || len(got) != MaxLineMessage {
		t.Errorf("status %d, %d bytes, %v", code, len(got), err)
	}
}

func TestLineCallThatIsGivenUpIsAnsweredLater(t *testing.T) {
	host, plugin := testLine(t)
	release := make(chan struct{})
	attend(t, plugin, func(request []byte) (uint32, []byte) {
		<-release
		return 0, request
	})
	if err := host.Ask([]byte("slow")); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	begin := time.Now()
	if _, _, err := host.Answer(ctx); err != context.DeadlineExceeded {
		t.Errorf("error %v", err)
	}
	if d := time.Since(begin); d > time.Second {
		t.Errorf("gave up after %v", d)
	}
	if _, _, err := host.Answer(ctx); err != context.DeadlineExceeded {
		t.Errorf("with a context that has ended: %v", err)
	}
	close(release)
	if _, got, err := host.Answer(t.Context()); err != nil || string(got) != "slow" {
		t.Errorf("answer %q, %v", got, err)
	}
}

// TestLineWhoseCallsEndAsTheContextDoes has the end of the context meet the answer: the next call must not notice.
func TestLineWhoseCallsEndAsTheContextDoes(t *testing.T) {
	host, plugin := testLine(t)
	attend(t, plugin, echo)
	for i := range 500 {
		ctx, cancel := context.WithCancel(t.Context())
		if err := host.Ask([]byte{byte(i)}); err != nil {
			t.Fatal(err)
		}
		go cancel()
		_, got, err := host.Answer(ctx)
		if errors.Is(err, context.Canceled) {
			_, got, err = host.Answer(t.Context())
		}
		if err != nil || len(got) != 1 || got[0] != byte(i) {
			t.Fatalf("call %d: %v, %v", i, got, err)
		}
	}
}

func TestLineToADeadPlugin(t *testing.T) {
	host, plugin := testLine(t)
	if err := host.Ask(nil); err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(20*time.Millisecond, func() { _ = plugin.Close() })
	if _, _, err := host.Answer(t.Context()); !errors.Is(err, ErrGone) {
		t.Errorf("waiting: %v", err)
	}
	if err := host.Ask(nil); !errors.Is(err, ErrGone) {
		t.Errorf("asking: %v", err)
	}
}

func TestLineThatIsClosedHereWhileWaiting(t *testing.T) {
	host, _ := testLine(t)
	if err := host.Ask(nil); err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(20*time.Millisecond, func() { _ = host.Close() })
	if _, _, err := host.Answer(t.Context()); !errors.Is(err, ErrGone) {
		t.Errorf("waiting: %v", err)
	}
	if err := host.Ask(nil); !errors.Is(err, ErrGone) {
		t.Errorf("asking: %v", err)
	}
}

// TestLineOfAPluginThatSendsAnything takes packets that are too short, too long or of another call.
func TestLineOfAPluginThatSendsAnything(t *testing.T) {
	answer := func(number, status uint32, n int) []byte {
		p := binary.LittleEndian.AppendUint32(nil, number)
		return append(binary.LittleEndian.AppendUint32(p, status), make([]byte, n)...)
	}
	for _, test := range []struct {
		name   string
		packet []byte
		ok     bool
	}{
		{"right", answer(1, 3, 5), true},
		{"largest", answer(1, 3, MaxLineMessage), true},
		{"too large", answer(1, 3, MaxLineMessage+1), false},
		{"much too large", answer(1, 3, 3*MaxLineMessage), false},
		{"short", answer(1, 3, 0)[:7], false},
		{"of the call before", answer(0, 0, 5), false},
		{"of the next call", answer(2, 0, 5), false},
	} {
		t.Run(test.name, func(t *testing.T) {
			host, plugin := testLine(t)
			if err := host.Ask([]byte("?")); err != nil {
				t.Fatal(err)
			}
			plugin.out = test.packet
			if err := plugin.send(); err != nil {
				t.Fatal(err)
			}
			code, got, err := host.Answer(t.Context())
			if (err == nil) != test.ok || test.ok && (code != 3 || len(got) != len(test.packet)-lineHeader) {
				t.Errorf("status %d, %d bytes, %v", code, len(got), err)
			}
		})
	}
}

// TestLineOfAPluginThatDoesNotRead fails once the socket is full, and does not wait.
func TestLineOfAPluginThatDoesNotRead(t *testing.T) {
	host, _ := testLine(t)
	for range 1000 {
		if err := host.Ask(make([]byte, MaxLineMessage)); err != nil {
			if errors.Is(err, ErrGone) {
				t.Errorf("error %v", err)
			}
			return
		}
	}
	t.Error("took 1,000 requests that nobody reads")
}

func FuzzLineAnswer(f *testing.F) {
	f.Add([]byte{1, 0, 0, 0, 2, 0, 0, 0, 'x'})
	f.Add([]byte{1, 0, 0})
	f.Fuzz(func(t *testing.T, packet []byte) {
		if len(packet) == 0 || len(packet) > 64<<10 {
			return
		}
		host, plugin := testLine(t)
		if err := host.Ask(nil); err != nil {
			t.Fatal(err)
		}
		plugin.out = packet
		if err := plugin.send(); err != nil {
			t.Fatal(err)
		}
		right := len(packet) >= lineHeader && len(packet) <= lineHeader+MaxLineMessage && binary.LittleEndian.Uint32(packet) == 1
		_, got, err := host.Answer(t.Context())
		if (err == nil) != right || right && !bytes.Equal(got, packet[lineHeader:]) {
			t.Errorf("%d bytes of %d: %v", len(got), len(packet), err)
		}
	})
}

func BenchmarkLine(b *testing.B) {
	for _, size := range []int{100, 4000} {
		b.Run(fmt.Sprintf("bytes=%d", size), func(b *testing.B) {
			host, plugin := testLine(b)
			attend(b, plugin, echo)
			request := make([]byte, size)
			for b.Loop() {
				if err := host.Ask(request); err != nil {
					b.Fatal(err)
				}
				if _, _, err := host.Answer(b.Context()); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
