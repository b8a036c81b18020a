package main

import (
	"fmt"

	"github.com/go-modelzoo/zoo/hub"
	"github.com/go-modelzoo/zoo/internal/ui"
)

// hubView shows what the hub says: a bar for each stage of long work, and its warnings. The hub waits for each call.
type hubView struct {
	*app
	bars   *ui.Progress // nil while nothing is drawn
	meters map[string]*ui.Meter
}

func (v *hubView) progress(p hub.Progress) {
	if v.bars == nil {
		v.bars, v.meters = v.Progress(), map[string]*ui.Meter{}
	}
	key := p.Name + " " + string(p.Stage)
	if v.meters[key] == nil {
		v.meters[key] = v.bars.Bytes(fmt.Sprintf("%s %s", p.Stage, p.Name), p.Total)
	}
	v.meters[key].Set(p.Done, p.Total)
	if p.Done < p.Total || p.Total < 0 {
		return
	}
	v.meters[key].Done()
	delete(v.meters, key)
	if len(v.meters) == 0 { // the terminal is free again for others
		v.rest()
	}
}

// warn prints a line. A bar that was still drawn, such as that of a download that failed, would be drawn over it.
func (v *hubView) warn(text string) {
	v.rest()
	v.Note("%s", text)
}

func (v *hubView) rest() {
	if v.bars != nil {
		v.bars.Close()
		v.bars = nil
	}
}
