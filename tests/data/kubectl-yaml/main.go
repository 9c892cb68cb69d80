// Reads manifests as kubectl's own library does, many in one run: for each input (its length in 4 bytes, the most
// significant first, and then itself) one line of JSON, {"documents": [...]} or {"error": "..."}.
package main

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"os"

	utiljson "k8s.io/apimachinery/pkg/util/json"
	"k8s.io/apimachinery/pkg/util/yaml"
)

// kubectl decodes each document into raw JSON first (cli-runtime's StreamVisitor), so no type says what it expects.
type document struct{ raw json.RawMessage }

func (d *document) UnmarshalJSON(data []byte) error {
	d.raw = append(json.RawMessage(nil), data...)
	return nil
}

// Empty documents are left out, as kubectl does; numbers are in the form that it sends them in.
func documents(data []byte) ([]json.RawMessage, error) {
	found := []json.RawMessage{}
	decoder := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(data), 4096)
	for {
		var next document
		if err := decoder.Decode(&next); errors.Is(err, io.EOF) {
			return found, nil
		} else if err != nil {
			return nil, err
		}
		raw := bytes.TrimSpace(next.raw)
		if len(raw) == 0 || bytes.Equal(raw, []byte("null")) {
			continue
		}
		var value any
		if err := utiljson.Unmarshal(raw, &value); err != nil {
			return nil, err
		}
		sent, err := json.Marshal(value)
		if err != nil {
			return nil, err
		}
		found = append(found, sent)
	}
}

func main() {
	input := bufio.NewReader(os.Stdin)
	output := bufio.NewWriter(os.Stdout)
	defer output.Flush()
	for {
		var length uint32
		if err := binary.Read(input, binary.BigEndian, &length); err != nil {
			return
		}
		data := make([]byte, length)
		if _, err := io.ReadFull(input, data); err != nil {
			panic(err)
		}
		answer := map[string]any{}
		if found, err := documents(data); err != nil {
			answer["error"] = err.Error()
		} else {
			answer["documents"] = found
		}
		line, err := json.Marshal(answer)
		if err != nil {
			panic(err)
		}
		output.Write(append(line, '\n'))
	}
}
