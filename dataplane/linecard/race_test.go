//go:build race

package linecard

const raceEnabled = true
