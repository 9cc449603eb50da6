#!/usr/bin/env bash
# Builds a small FFmpeg into OUT/bin and OUT/lib: H.264 in and out by libx264, raw pictures in, nothing else.
#   bash benchmarks/gpu/build_ffmpeg.sh OUT          needs gcc, make, nasm, libx264-dev, and a source tree:
#   FFMPEG_SOURCE=folder, or else Debian's source package by apt-get.
set -euo pipefail
out=$(realpath -m "$1")
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
missing=$(for tool in gcc make nasm; do command -v "$tool" >/dev/null || echo "$tool"; done)
[ -e /usr/include/x264.h ] || missing="$missing libx264-dev"
if [ -n "${missing// /}" ]; then
    echo "build_ffmpeg: missing:" $missing "; run: sudo apt-get install -y gcc make nasm libx264-dev, or give --ffmpeg FOLDER" >&2
    exit 1
fi
if [ -z "${FFMPEG_SOURCE:-}" ]; then
    cd "$scratch"
    # Debian's images list binary packages alone: the same places, asked for sources, in lists of this script's own.
    mkdir -p lists/partial sources
    for file in /etc/apt/sources.list.d/*.sources; do
        [ -e "$file" ] && sed 's/^Types:.*/Types: deb-src/' "$file" >"sources/$(basename "$file")"
    done
    for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
        [ -e "$file" ] && sed -n 's/^deb\(-src\)\? /deb-src /p' "$file" >"sources/$(basename "$file")"
    done
    apt="-o APT::Sandbox::User=root -o Dir::Etc::SourceList=/dev/null -o Dir::Etc::SourceParts=$scratch/sources -o Dir::State::Lists=$scratch/lists"
    apt-get $apt -qq update
    apt-get $apt -qq source --download-only ffmpeg
    tar -xf "$(find . -maxdepth 1 -name "ffmpeg_*.orig.tar.*" ! -name "*.asc")"
    FFMPEG_SOURCE=$(find "$scratch" -maxdepth 1 -type d -name 'ffmpeg-*' | head -n 1)
fi
mkdir -p "$scratch/build" && cd "$scratch/build"
"$(realpath "$FFMPEG_SOURCE")/configure" --prefix="$out" --libdir="$out/lib" --disable-everything --disable-autodetect \
    --disable-doc --disable-static --enable-shared --enable-gpl --enable-libx264 --disable-network --disable-ffplay \
    --enable-decoder=h264,rawvideo,wrapped_avframe --enable-encoder=libx264,rawvideo,wrapped_avframe \
    --enable-parser=h264 --enable-demuxer=mov,rawvideo,h264,matroska --enable-muxer=mp4,mov,null,rawvideo,framemd5 \
    --enable-protocol=file,pipe,data --enable-bsf=h264_mp4toannexb,extract_extradata \
    --enable-filter=scale,fps,format,null,crop,setsar,trim,setpts,testsrc2,hue,rotate,select,showinfo,transpose \
    --enable-indev=lavfi --extra-ldexeflags='-Wl,-rpath,$ORIGIN/../lib' --extra-ldsoflags='-Wl,-rpath,$ORIGIN'
make -j"$(nproc)" >/dev/null
make install >/dev/null
cp -L "$(ldconfig -p | awk '/libx264\.so\./ {print $NF; exit}')" "$out/lib/"
rm -rf "$out/include" "$out/share" "$out/lib/pkgconfig"
strip --strip-unneeded "$out"/bin/* "$out"/lib/*.so* 2>/dev/null || true
"$out/bin/ffmpeg" -hide_banner -version | head -n 1
