//go:build race

package event

// raceEnabled shrinks the largest tests, which the race detector slows down.
const raceEnabled = true
