"""The published definitions of the metrics, word by word: slow, and sharing no code with the package."""

import math


def overlap(a, b):
    shared = max(0.0, min(a[1], b[1]) - max(a[0], b[0]))
    union = (b[1] - b[0]) + (a[1] - a[0]) - shared
    return shared / union if union > 0 else 0.0


def by_score(rows):
    """Falling score, equal scores in the given order."""
    return sorted(rows, key=lambda row: -row["score"])


def average_precision(instances, predictions, threshold):
    """instances: [(video, segment)]; predictions: rows with video, segment, score."""
    taken = set()
    outcome = []
    for row in by_score(predictions):
        best, best_overlap = None, -1.0
        for number, (video, segment) in enumerate(instances):
            if video != row["video"] or number in taken:
                continue
            same = list(row["segment"]) == list(segment)
            value = 1.0 if same else overlap(row["segment"], segment)
            if value >= threshold and value > best_overlap:
                best, best_overlap = number, value
        if best is not None:
            taken.add(best)
        outcome.append(best is not None)
    points = []
    right = 0
    for place, hit in enumerate(outcome, start=1):
        right += hit
        points.append((right / len(instances), right / place))
    area, previous = 0.0, 0.0
    for recall in sorted({recall for recall, _ in points}):
        best_precision = max(precision for r, precision in points if r >= recall)
        area += (recall - previous) * best_precision
        previous = recall
    return area


def detection(database, results, thresholds):
    """Mean AP in percent for each threshold; database {video: [(segment, label)]}."""
    labels = sorted({label for rows in database.values() for _, label in rows})
    out = []
    for threshold in thresholds:
        total = 0.0
        for label in labels:
            instances = [(v, s) for v, rows in database.items() for s, name in rows if name == label]
            rows = [
                {**row, "video": v} for v, many in results.items() for row in many if row["label"] == label
            ]
            total += average_precision(instances, rows, threshold)
        out.append(100.0 * total / len(labels))
    return out


def proposals(database, results, thresholds):
    """Average recall (percent) at 1..100 percent of the retrieved proposals, the numbers, and the area."""
    videos = [video for video, rows in database.items() if rows]
    everything = sum(len(rows) for rows in results.values())
    ratio = 100 * float(len(videos)) / everything
    kept = {}
    for video in videos:
        ranked = by_score(results.get(video, []))
        kept[video] = ranked[: min(len(ranked), int(len(ranked) * ratio))]
    total = sum(len(rows) for rows in kept.values())
    recall, numbers = [], []
    for percent in range(1, 101):
        share = percent / 100.0 * (100 * float(len(videos)) / total)
        numbers.append(share * (float(total) / len(videos)))
        at_thresholds = []
        for threshold in thresholds:
            hit = count = 0
            for video in videos:
                budget = min(int(len(kept[video]) * share), len(kept[video]))
                for segment, _ in database[video]:
                    count += 1
                    hit += any(overlap(row["segment"], segment) >= threshold for row in kept[video][:budget])
            at_thresholds.append(hit / count)
        recall.append(100.0 * sum(at_thresholds) / len(at_thresholds))
    area = 0.0
    for i in range(99):
        area += (recall[i] + recall[i + 1]) / 2 * (numbers[i + 1] - numbers[i])
    return recall, area / numbers[-1]


def grounding(spans, answers, thresholds):
    """R@1 per threshold and mIoU in percent; answers may be None; the union is the hull."""
    values = []
    for (start, end), answer in zip(spans, answers, strict=True):
        if answer is None:
            values.append(0.0)
            continue
        shared = max(0.0, min(end, answer[1]) - max(start, answer[0]))
        hull = max(end, answer[1]) - min(start, answer[0])
        values.append(shared / hull if hull > 0 else 0.0)
    recall = [100.0 * sum(value >= t for value in values) / len(values) for t in thresholds]
    return recall, 100.0 * math.fsum(values) / len(values)
