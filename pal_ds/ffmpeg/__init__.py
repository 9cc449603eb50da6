"""ffmpeg and ffprobe as programs: run safely, asked about files, and made to encode one film."""
