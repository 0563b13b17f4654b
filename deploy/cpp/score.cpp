// Scores image files with a scorer.onnx and ONNX Runtime, nothing else: one JSON object per image.
//
//   score scorer.onnx image.ppm folder/ ...
//
// Exit code 0: none is rejected; 1: at least one is; 2: a mistake, or an image could not be scored.
#include <onnxruntime_cxx_api.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <string>
#include <vector>

#ifdef WITH_OPENCV
#include <opencv2/imgcodecs.hpp>
#include <opencv2/imgproc.hpp>
#endif

namespace fs = std::filesystem;

struct Image {
  int64_t height = 0, width = 0, channels = 0;
  int bytes = 1;              // Per value: 1 for uint8, 2 for uint16 in the machine's byte order.
  std::vector<uint8_t> data;  // Rows of pixels, RGB or grey.
};

#ifdef WITH_OPENCV
Image read_image(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);  // Not cv::imread: it knows no Unicode names on Windows.
  std::vector<char> bytes((std::istreambuf_iterator<char>(file)), {});
  const int flags = cv::IMREAD_UNCHANGED | cv::IMREAD_IGNORE_ORIENTATION;
  cv::Mat pixels = bytes.empty() ? cv::Mat() : cv::imdecode(bytes, flags);
  if (pixels.empty()) throw std::runtime_error("cannot be decoded");
  if (pixels.channels() == 4) cv::cvtColor(pixels, pixels, cv::COLOR_BGRA2RGB);
  else if (pixels.channels() == 3) cv::cvtColor(pixels, pixels, cv::COLOR_BGR2RGB);
  if (pixels.depth() != CV_8U && pixels.depth() != CV_16U) throw std::runtime_error("is not of 8 or 16 bits");
  Image image{pixels.rows, pixels.cols, pixels.channels(), pixels.depth() == CV_16U ? 2 : 1, {}};
  image.data.assign(pixels.datastart, pixels.dataend);
  return image;
}
#else
// Binary PPM (P6) and PGM (P5): what every camera tool can write, without an image library.
Image read_image(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::string magic;
  long width = 0, height = 0, top = 0;
  file >> magic;
  for (long* number : {&width, &height, &top}) {
    while ((file >> std::ws).peek() == '#') file.ignore(1 << 20, '\n');
    file >> *number;
  }
  file.get();
  if (!file || (magic != "P5" && magic != "P6") || (top != 255 && top != 65535) || width < 1 || height < 1 ||
      width > 100000 || height > 100000)
    throw std::runtime_error("is not a binary PPM or PGM of 8 or 16 bits; build with OpenCV for other formats");
  Image image{height, width, magic == "P6" ? 3 : 1, top == 255 ? 1 : 2, {}};
  image.data.resize(static_cast<size_t>(height) * width * image.channels * image.bytes);
  if (!file.read(reinterpret_cast<char*>(image.data.data()), image.data.size())) throw std::runtime_error("is cut off");
  if (image.bytes == 2)  // Stored with the high byte first.
    for (size_t i = 0; i < image.data.size(); i += 2) {
      const uint16_t value = image.data[i] << 8 | image.data[i + 1];
      *reinterpret_cast<uint16_t*>(&image.data[i]) = value;
    }
  return image;
}
#endif

std::string quoted(const std::string& text) {
  std::string out = "\"";
  for (const unsigned char c : text) {
    if (c == '"' || c == '\\') out += '\\', out += c;
    else if (c < 0x20) { char code[8]; std::snprintf(code, sizeof code, "\\u%04x", c); out += code; }
    else out += c;
  }
  return out + "\"";
}

class Scorer {
 public:
  explicit Scorer(const fs::path& path) : session_(env_, path.c_str(), options()) {
    const auto type = session_.GetInputTypeInfo(0);  // `type` owns what the next line looks at.
    const auto input = type.GetTensorTypeAndShapeInfo();
    element_ = input.GetElementType();
    shape_ = input.GetShape();
    Ort::AllocatorWithDefaultOptions allocator;
    for (size_t i = 0; i < session_.GetOutputCount(); ++i) {
      const std::string output = session_.GetOutputNameAllocated(i, allocator).get();
      for (const char* flag : {"registered", "in_distribution"})
        if (output == flag) flags_.push_back(flag);
    }
  }

  // The result as JSON; `rejected` is set when the part is.
  std::string score(const fs::path& path, Image& image, bool& rejected) {
    const auto element = image.bytes == 2 ? ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT16 : ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8;
    const std::vector<int64_t> shape{1, image.height, image.width, image.channels};
    if (element != element_) throw std::runtime_error("has another bit depth than the model");
    for (size_t i = 1; i < shape.size(); ++i)  // -1 stands for any size.
      if (shape_[i] >= 0 && shape_[i] != shape[i]) throw std::runtime_error("has another size or channels than the model");
    const auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
    const auto input = Ort::Value::CreateTensor(memory, image.data.data(), image.data.size(), shape.data(), 4, element);
    const char* inputs[] = {"image"};  // threshold, review_threshold and steps keep their defaults.
    std::vector<const char*> outputs{"score", "verdict", "residual_score", "discrimination_score", "steps_used"};
    outputs.insert(outputs.end(), flags_.begin(), flags_.end());
    const auto found = session_.Run(Ort::RunOptions{nullptr}, inputs, &input, 1, outputs.data(), outputs.size());
    const int64_t verdict = *found[1].GetTensorData<int64_t>();
    rejected |= verdict == 2;
    std::string flags;
    for (size_t i = 0; i < flags_.size(); ++i)
      flags += std::string(", \"") + flags_[i] + (*found[5 + i].GetTensorData<bool>() ? "\": true" : "\": false");
    static const char* names[] = {"pass", "review", "reject"};
    char line[256];
    std::snprintf(line, sizeof line,
                  ", \"score\": %.9g, \"verdict\": \"%s\", \"residual_score\": %.9g, \"discrimination_score\": %.9g, "
                  "\"steps_used\": %lld%s}",
                  *found[0].GetTensorData<float>(), names[verdict], *found[2].GetTensorData<float>(),
                  *found[3].GetTensorData<float>(), static_cast<long long>(*found[4].GetTensorData<int64_t>()), flags.c_str());
    return "{\"path\": " + quoted(path.u8string()) + line;
  }

 private:
  static Ort::SessionOptions options() {
    Ort::SessionOptions options;
    // For a GPU: UpdateCUDAProviderOptions with use_tf32 = 0, then options.AppendExecutionProvider_CUDA_V2.
    options.SetLogSeverityLevel(3);  // Inputs with defaults are meant, not worth a warning each.
    return options;
  }
  Ort::Env env_;
  Ort::Session session_;
  ONNXTensorElementDataType element_{};
  std::vector<int64_t> shape_;
  std::vector<const char*> flags_;  // Outputs that not every model has.
};

int main(int argc, char** argv) try {
  if (argc < 3) return std::fprintf(stderr, "usage: score scorer.onnx IMAGE_OR_FOLDER...\n"), 2;
  std::vector<fs::path> paths;
  for (int i = 2; i < argc; ++i) {
    const size_t before = paths.size();
    if (!fs::is_directory(argv[i])) paths.emplace_back(argv[i]);
    else for (const auto& entry : fs::directory_iterator(argv[i])) paths.push_back(entry.path());
    std::sort(paths.begin() + before, paths.end());
  }
  Scorer scorer(argv[1]);
  bool rejected = false, failed = false;
  for (const auto& path : paths) try {
      Image image = read_image(path);
      std::printf("%s\n", scorer.score(path, image, rejected).c_str());
    } catch (const std::exception& error) {  // One bad image; the rest goes on.
      failed = true;
      std::printf("{\"path\": %s, \"error\": %s}\n", quoted(path.u8string()).c_str(), quoted(error.what()).c_str());
    }
  return rejected ? 1 : failed || paths.empty() ? 2 : 0;
} catch (const std::exception& error) {
  return std::fprintf(stderr, "%s\n", error.what()), 2;
}
