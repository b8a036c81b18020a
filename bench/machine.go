package main

import (
	"math"
	"math/rand/v2"
	"runtime/debug"
	"sync"
	"time"

	"github.com/go-modelzoo/zoo/engine/kernel/cpu"
)

// machine is what the cores in use can do at most, all together: the fastest of all measurements of a run, since a shared machine only
// ever takes away. The zero value has measured nothing; rates stay 0 where the build or the processor has no such instructions.
type machine struct {
	threads int
	tiles   float64         // FLOP/s of bfloat16 products in the tile unit
	vector  float64         // FLOP/s of float32 multiply-adds in the widest registers that zoo uses
	read    map[int]float64 // bytes/s when a buffer of so many bytes is read again and again
}

// Rounds are long enough for the clock to settle at what the cores sustain: in 10 ms they are up to a fifth faster.
const (
	rounds       = 4
	roundSeconds = 0.1
	roundBytes   = 256 << 20
)

// readBlock is how many bytes a call of readLines reads: it must not take long, as goroutines are not preempted in it.
const readBlock = 256 << 10

// Sizes of buffers for reading: the smallest is beyond the second-level caches of a few cores, the largest such that no more memory is
// needed than for the largest of the networks.
const (
	smallestRead = 8 << 20
	largestRead  = 512 << 20
)

func newMachine(threads int) machine { return machine{threads: threads, read: map[int]float64{}} }

// fastest runs work on all threads at once and returns the amount that all have done in a second of the fastest round.
func (m machine) fastest(work func(thread int) (amount float64)) float64 {
	rate := 0.0
	for range rounds {
		amounts := make([]float64, m.threads)
		var wg sync.WaitGroup
		begin := time.Now()
		for t := range m.threads {
			wg.Go(func() { amounts[t] = work(t) })
		}
		wg.Wait()
		total := 0.0
		for _, a := range amounts {
			total += a
		}
		rate = max(rate, total/time.Since(begin).Seconds())
	}
	return rate
}

// measure times the units of arithmetic. Operands are random, as the clock of a processor may depend on the bits that it moves.
func (m *machine) measure() {
	var floats [64]float32
	r := rand.New(rand.NewPCG(1, 2))
	for i := range floats {
		floats[i] = float32(r.NormFloat64())
	}
	var halves [4 * 512]uint16
	for i := range halves {
		halves[i] = uint16(math.Float32bits(float32(r.NormFloat64())) >> 16)
	}
	for _, unit := range []struct {
		rate *float64
		run  func() (flop float64)
	}{
		{&m.vector, vectorUnit(cpu.Best(), &floats)},
		{&m.tiles, tileUnit(cpu.Best(), &halves)},
	} {
		if unit.run == nil {
			continue
		}
		*unit.rate = max(*unit.rate, m.fastest(func(int) (flop float64) {
			for begin := time.Now(); time.Since(begin).Seconds() < roundSeconds; {
				flop += unit.run()
			}
			return flop
		}))
	}
}

// measureRead times reading a buffer of a size that readSize returned.
func (m *machine) measureRead(size int) {
	if readLines == nil {
		return
	}
	part := max(size/m.threads/readBlock, 1) * readBlock
	buffer := make([]byte, m.threads*part)
	for i := range buffer {
		buffer[i] = 1 // or all pages would be the one of zeros
	}
	m.read[size] = max(m.read[size], m.fastest(func(thread int) float64 {
		mine := buffer[thread*part:][:part]
		passes := max(roundBytes/size, 1)
		for range passes {
			for at := 0; at < part; at += readBlock {
				readLines(mine[at : at+readBlock])
			}
		}
		return float64(passes * part)
	}))
	debug.FreeOSMemory() // what is timed next may want it
}

// bandwidth returns the bytes a second of reading a buffer of a size. What a larger one was read at, a smaller one can be.
func (m machine) bandwidth(size int) float64 {
	rate := 0.0
	for measured, r := range m.read {
		if measured >= size {
			rate = max(rate, r)
		}
	}
	return rate
}

// readSize is the size of the buffer that stands for so many bytes: the power of two below, so that its rate is not less than theirs.
func readSize(bytes float64) int {
	size := smallestRead
	for size < largestRead && float64(2*size) <= bytes {
		size *= 2
	}
	return size
}
