// Package weights reads and writes the files that hold a network's parameters: safetensors, PyTorch's .pth (the zip
// format of torch 1.6 and later, and the one before it, read in pickle protocols 2 to 5), and NumPy's .npy for single
// arrays. It reads the MobileNets V1 and V2 of TensorFlow Lite, quantised ones too.
//
// Open tells the format by the content, never by the name, and checks all of it before it returns: that the header or
// the pickle is well formed and within limits, and that every tensor lies inside the file. A file that breaks a rule is
// an error of one line; no input makes this package panic, run code, or allocate more than a small multiple of the
// file's size. Whether the numbers themselves are sound (no NaN, checksums right) is Verify's question, because it
// reads every byte; whether they are the ones a network wants is Match's.
//
// Files are memory-mapped. A Tensor refers to the file, and Float32 of aligned float32 values returns the mapped memory
// itself: nothing is copied, nothing is read before it is used, and processes that open the same file share it. Such
// memory is read-only, and gone after File.Close. A file that another process shortens while it is open faults, as every
// memory map does, and that ends the program: replace a file by rename, never in place.
//
// Values are little-endian and row-major (PyTorch's layout: convolutions OIHW, linear layers [out, in]) however the
// file stores them.
//
// A File and its tensors are safe for concurrent use; Close must come after the last use.
package weights
