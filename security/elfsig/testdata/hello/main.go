// Package main is a program to sign.
package main

import "fmt"

func main() { fmt.Println("hello") }
