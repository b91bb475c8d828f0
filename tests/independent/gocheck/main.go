// Command gocheck reads a C2SP tiled log with the Go project's own packages, golang.org/x/mod/sumdb
// note and tlog, which share nothing with this project.
//
//	gocheck VKEY DIR [EARLIER_CHECKPOINT]
//
// It opens the signed checkpoint, recomputes the root from the tiles, compares every entry with
// its authenticated leaf hash, proves some entries, and the earlier checkpoint where one is given.
// The proofs go to stdout as JSON, so that they can be compared with those of this project.
package main

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

const (
	height = 8
	width  = 1 << height
	goTree = "go.sum database tree\n"
)

type report struct {
	Size        int64               `json:"size"`
	Root        string              `json:"root"`
	Entries     int64               `json:"entries"`
	Inclusion   map[string][]string `json:"inclusion"`
	Consistency []string            `json:"consistency"`
}

// folder reads tiles of height 8 from a static log directory.
type folder string

func (dir folder) Height() int { return height }

func (dir folder) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	var all [][]byte
	for _, tile := range tiles {
		data, err := os.ReadFile(filepath.Join(string(dir), resource(tile)))
		if err != nil {
			full := tile
			full.W = width
			data, err = os.ReadFile(filepath.Join(string(dir), resource(full)))
		}
		if err != nil {
			return nil, err
		}
		if len(data) < tile.W*tlog.HashSize {
			return nil, fmt.Errorf("%s has %d bytes", resource(tile), len(data))
		}
		all = append(all, data[:tile.W*tlog.HashSize])
	}
	return all, nil
}

func (dir folder) SaveTiles([]tlog.Tile, [][]byte) {}

// resource is the C2SP path: that of the Go checksum database without the height.
func resource(tile tlog.Tile) string {
	path := strings.TrimPrefix(tile.Path(), fmt.Sprintf("tile/%d/", height))
	return "tile/" + strings.Replace(path, "data/", "entries/", 1)
}

func main() {
	if len(os.Args) < 3 {
		fail(fmt.Errorf("usage: gocheck VKEY DIR [EARLIER_CHECKPOINT]"))
	}
	verifier, err := note.NewVerifier(os.Args[1])
	fail(err)
	dir := folder(os.Args[2])
	tree := checkpoint(verifier, filepath.Join(string(dir), "checkpoint"))
	told := report{Size: tree.N, Root: tree.Hash.String(), Inclusion: map[string][]string{}}
	if tree.N > 0 {
		hashes := tlog.TileHashReader(tree, dir)
		root, err := tlog.TreeHash(tree.N, hashes)
		fail(err)
		if root != tree.Hash {
			fail(fmt.Errorf("the tiles lead to the root %v", root))
		}
		told.Entries = entries(dir, tree, hashes, told.Inclusion)
		if len(os.Args) > 3 {
			earlier := checkpoint(verifier, os.Args[3])
			proof, err := tlog.ProveTree(tree.N, earlier.N, hashes)
			fail(err)
			fail(tlog.CheckTree(proof, tree.N, tree.Hash, earlier.N, earlier.Hash))
			told.Consistency = text(proof)
		}
	}
	fail(json.NewEncoder(os.Stdout).Encode(told))
}

// checkpoint opens a note and returns the tree in it, whose first line is the log's name.
func checkpoint(verifier note.Verifier, file string) tlog.Tree {
	data, err := os.ReadFile(file)
	fail(err)
	opened, err := note.Open(data, note.VerifierList(verifier))
	fail(err)
	origin := verifier.Name() + "\n"
	if !strings.HasPrefix(opened.Text, origin) {
		fail(fmt.Errorf("the checkpoint is of another log than %s", verifier.Name()))
	}
	tree, err := tlog.ParseTree([]byte(goTree + strings.TrimPrefix(opened.Text, origin)))
	fail(err)
	return tree
}

// entries compares every entry with its leaf hash, which the hash reader has authenticated.
func entries(dir folder, tree tlog.Tree, hashes tlog.HashReader, proofs map[string][]string) int64 {
	var seen int64
	for seen < tree.N {
		held := tree.N - seen
		if held > width {
			held = width
		}
		tile := tlog.Tile{H: height, L: -1, N: seen / width, W: int(held)}
		var wanted []int64
		for i := int64(0); i < held; i++ {
			wanted = append(wanted, tlog.StoredHashIndex(0, seen+i))
		}
		leaves, err := hashes.ReadHashes(wanted)
		fail(err)
		for i, entry := range bundle(dir, tile) {
			leaf := tlog.RecordHash(entry)
			if leaf != leaves[i] {
				fail(fmt.Errorf("entry %d is not the one that was logged", seen))
			}
			if seen%97 == 0 || seen == tree.N-1 {
				proof, err := tlog.ProveRecord(tree.N, seen, hashes)
				fail(err)
				fail(tlog.CheckRecord(proof, tree.N, tree.Hash, seen, leaf))
				proofs[fmt.Sprint(seen)] = text(proof)
			}
			seen++
		}
	}
	return seen
}

// bundle returns the entries of one bundle, each preceded by its length.
func bundle(dir folder, tile tlog.Tile) [][]byte {
	data, err := os.ReadFile(filepath.Join(string(dir), resource(tile)))
	if err != nil {
		full := tile
		full.W = width
		data, err = os.ReadFile(filepath.Join(string(dir), resource(full)))
	}
	fail(err)
	reader := bytes.NewReader(data)
	var all [][]byte
	for len(all) < tile.W {
		var size uint16
		fail(binary.Read(reader, binary.BigEndian, &size))
		if int(size) > reader.Len() {
			fail(fmt.Errorf("%s ends inside an entry", resource(tile)))
		}
		entry := make([]byte, size)
		reader.Read(entry)
		all = append(all, entry)
	}
	return all
}

func text(proof []tlog.Hash) []string {
	told := []string{}
	for _, hash := range proof {
		told = append(told, hash.String())
	}
	return told
}

func fail(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "gocheck:", err)
		os.Exit(1)
	}
}
