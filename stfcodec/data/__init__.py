"""Reading collections of .stf files back, into training pipelines (docs/data.md).

`dataset` reads files and `streaming` shards for PyTorch's DataLoader, `columns` serves Ray Data.
`decoding` turns streams into tensors for all of them. Importing this package imports torch.
"""

from __future__ import annotations

from stfcodec.data.columns import StfDecoder
from stfcodec.data.crops import RandomCrop
from stfcodec.data.dataset import StfDataset
from stfcodec.data.decoding import decode_batch
from stfcodec.data.streaming import StfShards
from stfcodec.view import View

__all__ = ["RandomCrop", "StfDataset", "StfDecoder", "StfShards", "View", "decode_batch"]
