package state

import (
	"bytes"
	"strings"
	"testing"

	"github.com/spanledger/spanledger/change"
)

func FuzzDecodeChains(f *testing.F) {
	for _, seed := range []string{
		`[]`, `null`, `{}`, `[{}]`, `[{"table":"t"}]`,
		`[{"table":"t","through":"20231114T221320.000005Z-t-14tx-2f9.1800000001.112","state":"AAH/"}]`,
		`[{"table":"t","through":"19700101T000000.000000Z-t-10.10.110"},{"table":"u","through":"19700101T000000.000000Z-t-10.10.110"}]`,
		`[{"table":"u","through":"19700101T000000.000000Z-t-10.10.110"},{"table":"t","through":"19700101T000000.000000Z-t-10.10.110"}]`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		chains, err := decodeChains(text)
		if err != nil {
			return
		}
		again, err := encodeChains(chains)
		if err != nil {
			t.Fatalf("%s reads as %+v, which cannot be stored: %v", text, chains, err)
		}
		twice, err := decodeChains(again)
		if err != nil || len(twice) != len(chains) {
			t.Fatalf("%s was stored as %s, which reads as %+v, %v", text, again, twice, err)
		}
		for i := range chains {
			if chains[i].Table != twice[i].Table || chains[i].Through != twice[i].Through || !bytes.Equal(chains[i].State, twice[i].State) {
				t.Errorf("%+v came back as %+v", chains[i], twice[i])
			}
		}
	})
}

func TestChainsInDisorder(t *testing.T) {
	for _, tables := range [][2]string{{"u", "t"}, {"t", "t"}} {
		text, err := encodeChains([]ChainEnd{{Table: tables[0]}, {Table: tables[1]}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := decodeChains(text); err == nil || !strings.Contains(err.Error(), "not in order") {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestChainsTooLarge(t *testing.T) {
	chains := make([]ChainEnd, 2000)
	for i := range chains {
		chains[i] = ChainEnd{Table: strings.Repeat("t", i+1), Through: change.Position{Commit: 1}, State: make([]byte, 4096)}
	}
	if _, err := encodeChains(chains); err == nil || !strings.Contains(err.Error(), "2000 chains") {
		t.Errorf("%v", err)
	}
}
