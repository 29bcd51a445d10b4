//go:build !race

package patricia

// RaceDetector tells tests that everything takes ten times as long.
const RaceDetector = false
