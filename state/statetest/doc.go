// Package statetest is the conformance suite of state.Store: what every form of it must do, whoever wrote it. A form's test
// calls Run; the suite needs nothing but the interface.
package statetest
