// Makes the test vectors of this folder: gzip streams as Go's standard library writes them.
//
//	cd crates/lifeboat-gzip/tests/vectors && go run make.go
//
// Made with Go 1.19.8; every release from 1.7 to 1.26 is expected to write the same. The tests need no Go: the streams are
// committed. go127.gz is none of these, but the first 60,000 bytes of a layer of Debian packages that a dockerd built with
// Go 1.27.1 wrote. Recipes beside them are written by `cargo run -p lifeboat-gzip --example make_recipes`.
package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"log"
	"os"
	"time"
)

// noise is a generator that gives the same bytes everywhere.
type noise uint64

func (n *noise) next(below int) int {
	*n ^= *n << 13
	*n ^= *n >> 7
	*n ^= *n << 17
	return int(uint64(*n) >> 20 % uint64(below))
}

// random gives bytes below a bound: 256 cannot be compressed.
func (n *noise) random(size, below int) []byte {
	b := make([]byte, size)
	for i := range b {
		b[i] = byte(n.next(below))
	}
	return b
}

// prose gives words of a small vocabulary, with numbers between them.
func (n *noise) prose(size int) []byte {
	var words [][]byte
	for i := 0; i < 300; i++ {
		word := n.random(2+n.next(9), 26)
		for j := range word {
			word[j] += 'a'
		}
		words = append(words, word)
	}
	var b bytes.Buffer
	for b.Len() < size {
		// Low words are more frequent, as in languages.
		b.Write(words[n.next(1+n.next(len(words)))])
		if n.next(12) == 0 {
			fmt.Fprintf(&b, " %d\n", n.next(100000))
		} else {
			b.WriteByte(' ')
		}
	}
	return b.Bytes()[:size]
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

// vector writes NAME.gz.
func vector(name string, fill func(w *gzip.Writer)) {
	f, err := os.Create(name + ".gz")
	check(err)
	w := gzip.NewWriter(f)
	fill(w)
	check(w.Close())
	check(f.Close())
}

// pieces writes in pieces of some size.
func pieces(w io.Writer, b []byte, size int) {
	for len(b) > 0 {
		n := size
		if n > len(b) {
			n = len(b)
		}
		_, err := w.Write(b[:n])
		check(err)
		b = b[n:]
	}
}

func main() {
	n := noise(88172645463325252)
	vector("empty", func(w *gzip.Writer) {})
	vector("byte", func(w *gzip.Writer) { pieces(w, []byte{'x'}, 1) })
	vector("short", func(w *gzip.Writer) { pieces(w, []byte("to be or not to be, that is the question"), 100) })

	prose := n.prose(80_000)
	vector("single", func(w *gzip.Writer) { pieces(w, prose, len(prose)) })
	odd := n.prose(70_000)
	vector("odd", func(w *gzip.Writer) { pieces(w, odd, 7) })
	hard := n.random(24_000, 256)
	vector("noise", func(w *gzip.Writer) { pieces(w, hard, 32<<10) })

	// As archive/tar writes: heads of 512 bytes, contents in pieces of 32 KiB at most, padding.
	vector("tar", func(w *gzip.Writer) {
		t := tar.NewWriter(w)
		for i, size := range []int{0, 1, 511, 512, 513, 5000, 20_000, 33_000, 3} {
			content := n.prose(size + 1)[:size]
			head := tar.Header{Name: fmt.Sprintf("some/folder/file-%d", i), Mode: 0o644, Size: int64(size),
				ModTime: time.Unix(1_700_000_000, 0)}
			check(t.WriteHeader(&head))
			pieces(t, content, 32<<10)
		}
		check(t.Close())
	})

	// Runs are where copies are longest, and blocks have most bytes.
	vector("runs", func(w *gzip.Writer) {
		w.Name, w.Comment, w.Extra = "runs.bin", "all members of the head", []byte{'a', 'b', 2, 0, 7, 7}
		w.ModTime = time.Unix(1_700_000_000, 0)
		for i := 0; i < 20; i++ {
			pieces(w, bytes.Repeat([]byte{byte(n.next(3))}, 1+n.next(100_000)), 32<<10)
			pieces(w, n.random(n.next(200), 4), 512)
		}
	})

	// What repeats at the farthest distances shows where Go moves its window.
	vector("far", func(w *gzip.Writer) {
		block := n.random(32_600, 64)
		for _, gap := range []int{0, 100, 168, 0, 50, 107, 93, 150} {
			pieces(w, block, 512)
			pieces(w, n.random(gap, 64), 512)
		}
	})

	// Nothing predicts a flush: blocks end early, and the last bytes before it stay out of the chains.
	vector("flushed", func(w *gzip.Writer) {
		text := n.prose(20_000)
		for len(text) > 0 {
			size := 1 + n.next(6000)
			if size > len(text) {
				size = len(text)
			}
			pieces(w, text[:size], size)
			check(w.Flush())
			text = text[size:]
		}
	})

	// Two streams and something behind them.
	vector("members", func(w *gzip.Writer) { pieces(w, n.prose(3000), 3000) })
	f, err := os.OpenFile("members.gz", os.O_APPEND|os.O_WRONLY, 0)
	check(err)
	second := gzip.NewWriter(f)
	pieces(second, []byte("the second member"), 100)
	check(second.Close())
	pieces(f, bytes.Repeat([]byte{0}, 100), 100)
	check(f.Close())
}
