"""TensorBoard's event files: `protobuf`, the wire format of its messages; `records`, the framing of a file (TFRecord).

Both are a few bytes by hand: the official packages are TensorFlow (600 MB), tensorboard (6 MB and grpc), or generated
code that ties users to a version of protobuf.
"""
