//go:build !amd64 || noasm

package main

import "github.com/go-modelzoo/zoo/engine/kernel/cpu"

const readBlock = 256 << 10

func vectorUnit(cpu.Tier, *[64]float32) func() float64 { return nil }
func tileUnit(cpu.Tier, *[2048]uint16) func() float64  { return nil }

var readLines func(block []byte)
