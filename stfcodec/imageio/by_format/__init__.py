"""What each picture format needs beyond Pillow: fields, metadata and layouts."""
