package state_test

import (
	"testing"

	"github.com/spanledger/spanledger/state"
	"github.com/spanledger/spanledger/state/statetest"
)

func TestMemory(t *testing.T) {
	store := state.NewMemory()
	statetest.Run(t, func(*testing.T) state.Store { return store })
}

func TestMemoryModel(t *testing.T) { statetest.Model(t, state.NewMemory(), 60) }
