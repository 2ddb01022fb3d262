//go:build race

package main

// raceDetector reports whether the race detector is built in, with which a program takes many times its CPU.
const raceDetector = true
