package ctl

import (
	"bytes"
)

// splitDocuments cuts a YAML stream before each "---". Put together again, the parts are the input,
// byte for byte. In valid YAML a line never begins with "---" inside a document
// (https://yaml.org/spec/1.2.2/#914-explicit-documents).
func splitDocuments(content []byte) [][]byte {
	var docs [][]byte
	start, at := 0, 0
	for line := range bytes.Lines(content) {
		// The text before the first marker is a document only if it has content.
		if isMarker(line) && at > start && (start > 0 || !isBlank(content[:at])) {
			docs = append(docs, content[start:at])
			start = at
		}
		at += len(line)
	}
	if at > start {
		docs = append(docs, content[start:at])
	}
	return docs
}

func isMarker(line []byte) bool {
	rest, ok := bytes.CutPrefix(line, []byte("---"))
	return ok && (len(rest) == 0 || bytes.IndexByte([]byte(" \t\r\n"), rest[0]) >= 0)
}

// isBlank reports whether a document has only markers, comments and white space.
func isBlank(doc []byte) bool { return len(head(doc)) == len(doc) }

// head returns the beginning of a document up to its first content: the marker and comments such as Helm's "# Source".
func head(doc []byte) []byte {
	n := 0
	for line := range bytes.Lines(doc) {
		text := bytes.TrimSpace(line)
		if isMarker(line) {
			text = bytes.TrimSpace(line[len("---"):])
		}
		if len(text) > 0 && text[0] != '#' {
			break
		}
		n += len(line)
	}
	return doc[:n]
}

// appendDocument appends a document, with a separator if the next input begins without one.
func appendDocument(out *bytes.Buffer, doc []byte) {
	if out.Len() > 0 {
		if out.Bytes()[out.Len()-1] != '\n' {
			out.WriteByte('\n')
		}
		if first, _, _ := bytes.Cut(doc[len(leadingBlank(doc)):], []byte("\n")); !isMarker(first) {
			out.WriteString("---\n")
		}
	}
	out.Write(doc)
}

// leadingBlank returns the comments and blank lines before the document's marker.
func leadingBlank(doc []byte) []byte {
	n := 0
	for line := range bytes.Lines(doc) {
		text := bytes.TrimSpace(line)
		if len(text) > 0 && text[0] != '#' {
			break
		}
		n += len(line)
	}
	return doc[:n]
}
