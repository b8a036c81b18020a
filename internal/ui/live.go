package ui

import (
	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
)

// Live adds a bar between two texts that are asked for again at every refresh, from another goroutine.
func (p *Progress) Live(total int64, before, after func() string) *Meter {
	if p.bars == nil {
		return &Meter{}
	}
	text := func(f func() string) decor.Decorator { return decor.Any(func(decor.Statistics) string { return f() }) }
	return &Meter{bar: p.bars.AddBar(total, mpb.PrependDecorators(text(before)), mpb.AppendDecorators(text(after)))}
}
