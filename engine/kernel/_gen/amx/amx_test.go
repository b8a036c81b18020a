package amx

import (
	"encoding/hex"
	"testing"
)

// Numbers of general registers.
const (
	rax, rdx, rbx, rsi, rdi, r9, r12, r13, r15 = 0, 2, 3, 6, 7, 9, 12, 13, 15
)

// TestBytesAreThoseOfADisassembler compares with what GNU as 2.40 assembles and objdump reads back.
func TestBytesAreThoseOfADisassembler(t *testing.T) {
	for _, c := range []struct {
		name string
		code []byte
		want string
	}{
		{"ldtilecfg (%rdi)", LoadConfigCode(rdi), "c4e2784907"},
		{"ldtilecfg (%r12)", LoadConfigCode(r12), "c4c278490424"},
		{"ldtilecfg (%r13)", LoadConfigCode(r13), "c4c278494500"},
		{"tilerelease", ReleaseCode(), "c4e27849c0"},
		{"tilezero %tmm5", ZeroCode(5), "c4e27b49e8"},
		{"tileloadd (%rax,%r9,1),%tmm4", LoadCode(4, rax, r9, 0), "c4a27b4b2408"},
		{"tileloadd 0x400(%r12,%rdx,1),%tmm7", LoadCode(7, r12, rdx, 0x400), "c4c27b4bbc1400040000"},
		{"tileloadd (%r13,%r9,1),%tmm6", LoadCode(6, r13, r9, 0), "c4827b4b740d00"},
		{"tileloadd 0x40(%rbx,%r15,1),%tmm1", LoadCode(1, rbx, r15, 0x40), "c4a27b4b4c3b40"},
		{"tilestored %tmm3,0x840(%rsi,%rax,1)", StoreCode(3, rsi, rax, 0x840), "c4e27a4b9c0640080000"},
		{"tdpbf16ps %tmm6,%tmm4,%tmm0", DotCode(0, 4, 6), "c4e24a5cc4"},
		{"tdpbf16ps %tmm7,%tmm5,%tmm3", DotCode(3, 5, 7), "c4e2425cdd"},
		{"vdpbf16ps %zmm3,%zmm2,%zmm1", DotPairsCode(1, 2, 3), "62f26e4852cb"},
		{"vdpbf16ps %zmm28,%zmm30,%zmm17", DotPairsCode(17, 30, 28), "6282" + "0e40" + "52cc"},
		{"vdpbf16ps %zmm29,%zmm31,%zmm8", DotPairsCode(8, 31, 29), "6212" + "0640" + "52c5"},
		{"vcvtneps2bf16 %zmm3,%ymm1", RoundCode(1, 3, 0), "62f27e4872cb"},
		{"vcvtneps2bf16 %zmm29,%ymm17", RoundCode(17, 29, 0), "62827e4872cd"},
		{"vcvtneps2bf16 %zmm12,%ymm30{%k3}{z}", RoundCode(30, 12, 3), "62427ecb72f4"},
		{"vcvtne2ps2bf16 %zmm3,%zmm2,%zmm1", RoundPairCode(1, 2, 3), "62f26f4872cb"},
		{"vcvtne2ps2bf16 %zmm28,%zmm30,%zmm17", RoundPairCode(17, 30, 28), "62820f4072cc"},
	} {
		if got := hex.EncodeToString(c.code); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}
