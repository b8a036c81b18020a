package ui

import (
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
)

// Progress draws bars with rate and time left while long work runs. Without a terminal it draws nothing. Close it before
// printing anything else.
type Progress struct {
	bars *mpb.Progress
}

// Progress starts drawing on standard error.
func (c *Console) Progress() *Progress {
	if c.Quiet || !Terminal(c.Err) {
		return &Progress{}
	}
	return &Progress{mpb.New(mpb.WithOutput(c.Err), mpb.WithWidth(48), mpb.WithRefreshRate(120*time.Millisecond))}
}

// Close ends the drawing; unfinished bars stay as they are.
func (p *Progress) Close() {
	if p.bars != nil {
		p.bars.Shutdown()
	}
}

// Meter is one bar.
type Meter struct {
	bar  *mpb.Bar
	last time.Time
}

// Bytes adds a bar that counts bytes; total 0 is unknown.
func (p *Progress) Bytes(label string, total int64) *Meter {
	return p.meter(label, total, decor.CountersKiloByte("% .1f / % .1f"), decor.EwmaSpeed(decor.SizeB1000(0), "% .1f", 30))
}

// Items adds a bar that counts things such as "images".
func (p *Progress) Items(label, unit string, total int64) *Meter {
	return p.meter(label, total, decor.CountersNoUnit("%d / %d "+unit), decor.EwmaSpeed(0, "%.1f "+unit+"/s", 30))
}

func (p *Progress) meter(label string, total int64, count, rate decor.Decorator) *Meter {
	if p.bars == nil {
		return &Meter{}
	}
	bar := p.bars.AddBar(total,
		mpb.PrependDecorators(decor.Name(label, decor.WCSyncSpaceR), count),
		mpb.AppendDecorators(rate, decor.Name("  "), decor.EwmaETA(decor.ET_STYLE_GO, 30)))
	return &Meter{bar: bar, last: time.Now()}
}

// Set moves the bar to done of total (0: leave the total as it is).
func (m *Meter) Set(done, total int64) {
	if m == nil || m.bar == nil {
		return
	}
	if total > 0 {
		m.bar.SetTotal(total, false)
	}
	now := time.Now()
	m.bar.EwmaSetCurrent(done, now.Sub(m.last))
	m.last = now
}

// Done fills the bar.
func (m *Meter) Done() {
	if m == nil || m.bar == nil {
		return
	}
	m.bar.SetTotal(-1, true)
}
