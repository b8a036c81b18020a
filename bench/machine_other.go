//go:build !amd64 || noasm

package main

import "github.com/go-modelzoo/zoo/engine/kernel/cpu"

func vectorUnit(cpu.Tier, *[64]float32) func() float64 { return nil }
func tileUnit(cpu.Tier, *[2048]uint16) func() float64  { return nil }

var readLines func(block []byte)
