package main

import (
	"fmt"

	"github.com/go-modelzoo/zoo/hub"
	"github.com/go-modelzoo/zoo/internal/ui"
)

// hubProgress draws a bar for each stage of the hub's long work.
func (a *app) hubProgress() func(hub.Progress) {
	if a.Quiet || !ui.Terminal(a.Err) {
		return nil
	}
	var bars *ui.Progress
	meters := map[string]*ui.Meter{}
	return func(p hub.Progress) {
		if bars == nil {
			bars = a.Progress()
		}
		key := p.Name + " " + string(p.Stage)
		if meters[key] == nil {
			meters[key] = bars.Bytes(fmt.Sprintf("%s %s", p.Stage, p.Name), p.Total)
		}
		meters[key].Set(p.Done, p.Total)
		if p.Done < p.Total || p.Total < 0 {
			return
		}
		meters[key].Done()
		delete(meters, key)
		if len(meters) == 0 { // the terminal is free again for others
			bars.Close()
			bars = nil
		}
	}
}
