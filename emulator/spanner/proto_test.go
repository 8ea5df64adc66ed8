package spanner_test

import (
	"os"
	"testing"

	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"
)

// shopFiles reads the types that tests put into proto bundles.
func shopFiles(t *testing.T) *descriptorpb.FileDescriptorSet {
	t.Helper()
	text, err := os.ReadFile("testdata/shop.textpb")
	if err != nil {
		t.Fatal(err)
	}
	files := &descriptorpb.FileDescriptorSet{}
	if err := prototext.Unmarshal(text, files); err != nil {
		t.Fatal(err)
	}
	return files
}

func serialized(t *testing.T, files *descriptorpb.FileDescriptorSet) []byte {
	t.Helper()
	b, err := proto.Marshal(files)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func shopDescriptors(t *testing.T) []byte {
	t.Helper()
	return serialized(t, shopFiles(t))
}
