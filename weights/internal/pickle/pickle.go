// Package pickle runs the pickles of PyTorch checkpoints, which may come from anyone.
//
// A pickle is a program. The machine that runs it is gopickle's, which does what the opcodes say: it allocates what a
// length asks for, indexes what the stack should hold, and constructs a few classes that it knows. So every pickle is
// verified first, as a whole and without running it (see verify): opcodes from a short list, every argument inside the
// data, a stack that never underflows, bounded size, count and nesting. What is then run is the same in opcodes of
// protocol 2, whichever of 2 to 5 the pickle is written in; it costs memory and time proportional to its length, and reaches
// the caller's world only through the two functions given to Load: one that resolves globals (the allow-list) and one
// that resolves persistent ids (the storages).
//
// The package has no state; Load may be called concurrently.
package pickle

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/nlpodyssey/gopickle/pickle"
	"github.com/nlpodyssey/gopickle/types"
)

// Env is what a pickle may reach.
type Env struct {
	// Global resolves the global module.name to a value: a gopickle types.Callable (or PyNewable), or anything that the
	// pickle may only pass on. An error refuses the pickle and is returned as it is. Every global of a pickle is asked for.
	Global func(module, name string) (any, error)
	// Persistent resolves a persistent id, nil if the pickle may have none.
	Persistent func(id any) (any, error)
}

// Load runs the pickle at the start of data, and returns its value and its length in bytes. The value is made of nil,
// bool, int, *big.Int, float64, string (bytes too), gopickle's *types.Dict, *types.List (sets too) and *types.Tuple, and of
// what env gave. It may refer to itself: whoever walks it must bound the depth.
//
// Errors read on from the name of a file: "ends in the middle of a pickle".
func Load(data []byte, env Env) (value any, n int, err error) {
	safe, n, err := verify(data)
	if err != nil {
		return nil, 0, err
	}
	var refused error // the machine's errors say less than the one that stopped it
	u := pickle.NewUnpickler(bytes.NewReader(safe))
	u.PersistentLoad = func(id any) (v any, err error) {
		v, err = env.resolve(id)
		refused = err
		return v, err
	}
	value, err = run(&u)
	switch {
	case refused != nil:
		return nil, 0, refused
	case err != nil:
		return nil, 0, fmt.Errorf("has a damaged pickle: %s", short(err.Error()))
	}
	return value, n, nil
}

// resolve gives a global or a persistent id, as verify has made them of the pickle's (see persistentOps).
func (env Env) resolve(id any) (any, error) {
	tuple, ok := id.(*types.Tuple)
	switch {
	case ok && tuple.Len() == 2:
		module, okModule := tuple.Get(0).(string)
		name, okName := tuple.Get(1).(string)
		if !okModule || !okName || module == "" {
			return nil, errors.New("has a damaged pickle: it names a global without a module")
		}
		return env.Global(module, name)
	case ok && tuple.Len() == 1 && env.Persistent != nil:
		return env.Persistent(tuple.Get(0))
	}
	return nil, errors.New("has a damaged pickle: a persistent ID where there can be none")
}

// run turns a panic of the machine into an error. verify leaves no known way to one; a checkpoint must not be able to
// end the process by an unknown one.
func run(u *pickle.Unpickler) (value any, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%v", r)
		}
	}()
	return u.Load()
}

// short keeps an error of the machine, which may print whole values, to a line.
func short(s string) string {
	s, _, _ = strings.Cut(s, "\n")
	if len(s) > 120 {
		s = strings.ToValidUTF8(s[:120], "") + "..."
	}
	return s
}
