// What Flux's library for semantic versions says of ranges and tags. It reads lines of JSON: a range, and tags.
// It writes a line for each: whether the range can be read, and for each tag whether it is a version (as Flux's
// pkg/version reads one) that is in it; and the place of each tag among the others, oldest first.
package main

import (
	"bufio"
	"encoding/json"
	"os"
	"strings"

	"github.com/Masterminds/semver/v3"
)

type question struct {
	Range string
	Tags  []string
}

type answer struct {
	Readable bool     `json:"readable"`
	Holds    []string `json:"holds"`
	Compared []int    `json:"compared"`
}

func version(tag string) *semver.Version {
	if _, err := semver.StrictNewVersion(strings.TrimPrefix(tag, "v")); err != nil {
		return nil
	}
	read, err := semver.NewVersion(tag)
	if err != nil {
		return nil
	}
	return read
}

func main() {
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 1<<24)
	out := json.NewEncoder(os.Stdout)
	for lines.Scan() {
		var asked question
		if err := json.Unmarshal(lines.Bytes(), &asked); err != nil {
			panic(err)
		}
		given := answer{}
		constraint, err := semver.NewConstraint(asked.Range)
		given.Readable = err == nil
		var before *semver.Version
		for _, tag := range asked.Tags {
			read := version(tag)
			word := "no version"
			if read != nil && err == nil {
				word = "out"
				if constraint.Check(read) {
					word = "in"
				}
			}
			given.Holds = append(given.Holds, word)
			if read != nil {
				if before != nil {
					given.Compared = append(given.Compared, read.Compare(before))
				}
				before = read
			}
		}
		if err := out.Encode(given); err != nil {
			panic(err)
		}
	}
	if err := lines.Err(); err != nil {
		panic(err)
	}
}
