//go:build linux

package pluginrpc

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

func testBell(t testing.TB) *Bell {
	t.Helper()
	m, err := NewMemory()
	if err != nil {
		t.Fatal(err)
	}
	s, err := m.Take(BellSize)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(m.Give(s), m.Close()); err != nil {
			t.Error(err)
		}
	})
	b, err := NewBell(s.Data)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// attend has a plugin attend to the bell, with its own view of the memory until the test ends.
func attend(t testing.TB, b *Bell, answer func([]byte) (uint32, []byte)) {
	t.Helper()
	theirs, err := NewBell(b.data)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		theirs.Attend(ctx, answer)
	}()
	t.Cleanup(func() {
		stop()
		select {
		case <-ended:
		case <-time.After(5 * time.Second):
			t.Error("the plugin still attends after its context ended")
		}
		if b.Attended() {
			t.Error("the bell still says that it is attended")
		}
	})
	for !b.Attended() {
		time.Sleep(time.Millisecond)
	}
}

func TestBellAnswersEachCall(t *testing.T) {
	b := testBell(t)
	if b.Attended() {
		t.Error("a new bell is attended")
	}
	attend(t, b, func(request []byte) (uint32, []byte) {
		if len(request)%3 == 0 {
			time.Sleep(200 * time.Microsecond) // long enough for the host to sleep
		}
		return uint32(len(request)), bytes.ToUpper(request)
	})
	for i := range 2000 {
		if i%7 == 0 {
			time.Sleep(50 * time.Microsecond) // and the plugin
		}
		want := bytes.Repeat([]byte{byte('a' + i%26)}, i%100)
		if i == 1000 {
			want = bytes.Repeat([]byte("x"), MaxBellRequest)
		}
		if err := b.Ask(want); err != nil {
			t.Fatal(err)
		}
		code, got, err := b.Answer(t.Context(), nil)
		if err != nil || int(code) != len(want) || !bytes.Equal(got, bytes.ToUpper(want)) {
			t.Fatalf("call %d: status %d, %.20q, %v", i, code, got, err)
		}
	}
	if err := b.Ask(make([]byte, MaxBellRequest+1)); err == nil {
		t.Error("a request that does not fit was taken")
	}
}

func TestBellCallThatIsGivenUpIsAnsweredLater(t *testing.T) {
	b := testBell(t)
	release := make(chan struct{})
	attend(t, b, func(request []byte) (uint32, []byte) {
		<-release
		return 0, request
	})
	if err := b.Ask([]byte("slow")); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	begin := time.Now()
	if _, _, err := b.Answer(ctx, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v", err)
	}
	if d := time.Since(begin); d > time.Second {
		t.Errorf("gave up after %v", d)
	}
	close(release)
	if _, got, err := b.Answer(t.Context(), nil); err != nil || string(got) != "slow" {
		t.Errorf("answer %q, %v", got, err)
	}
}

func TestBellOfADeadPlugin(t *testing.T) {
	b := testBell(t)
	gone := make(chan struct{})
	time.AfterFunc(20*time.Millisecond, func() { close(gone) })
	if err := b.Ask(nil); err != nil {
		t.Fatal(err)
	}
	if _, _, err := b.Answer(t.Context(), gone); !errors.Is(err, ErrGone) {
		t.Errorf("error %v", err)
	}
}

func TestBellWithAnAnswerLargerThanItself(t *testing.T) {
	b := testBell(t)
	if err := b.Ask(nil); err != nil {
		t.Fatal(err)
	}
	binary.LittleEndian.PutUint32(b.data[bellResponseSize:], MaxBellResponse+1)
	b.answered.Store(b.calls)
	if _, _, err := b.Answer(t.Context(), nil); err == nil {
		t.Error("read past the bell")
	}
}

// TestBellOfAPluginThatScribbles has the plugin write anything anywhere meanwhile: the host gets some answer or gives up in time.
func TestBellOfAPluginThatScribbles(t *testing.T) {
	for seed := range uint64(20) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			b := testBell(t)
			rng := rand.New(rand.NewPCG(seed, 0))
			words := []int{bellAttended, bellAsked, bellAnswered, bellPluginSleeps, bellHostSleeps, bellRequestSize, bellStatus, bellResponseSize}
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
			defer cancel()
			done := make(chan struct{})
			go func() {
				defer close(done)
				for ctx.Err() == nil {
					b.word(words[rng.IntN(len(words))]).Store(rng.Uint32N(4))
				}
			}()
			begin := time.Now()
			for ctx.Err() == nil {
				if err := b.Ask([]byte("?")); err != nil {
					t.Fatal(err)
				}
				if _, _, err := b.Answer(ctx, nil); err != nil && ctx.Err() == nil {
					t.Log(err)
				}
			}
			<-done
			if d := time.Since(begin); d > 2*time.Second {
				t.Errorf("took %v", d)
			}
		})
	}
}

func FuzzBellAnswer(f *testing.F) {
	f.Add([]byte{1, 0, 0, 0}, uint32(MaxBellResponse))
	f.Fuzz(func(t *testing.T, head []byte, size uint32) {
		b := testBell(t)
		copy(b.data, head)
		b.answered.Store(b.calls)
		binary.LittleEndian.PutUint32(b.data[bellResponseSize:], size)
		_, got, err := b.Answer(t.Context(), nil)
		if (err == nil) != (size <= MaxBellResponse) || err == nil && len(got) != int(size) {
			t.Errorf("%d bytes of %d: %v", len(got), size, err)
		}
	})
}

func BenchmarkBell(b *testing.B) {
	bell := testBell(b)
	attend(b, bell, func(request []byte) (uint32, []byte) { return 0, request })
	for b.Loop() {
		if err := bell.Ask([]byte("hello")); err != nil {
			b.Fatal(err)
		}
		if _, _, err := bell.Answer(b.Context(), nil); err != nil {
			b.Fatal(err)
		}
	}
}
